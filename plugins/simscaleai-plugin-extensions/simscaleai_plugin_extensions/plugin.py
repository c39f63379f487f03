"""What this plugin offers."""

from __future__ import annotations

from simscaleai_core.plugin import AdapterSpec, ExtensionSpec, PluginInfo, provides

PLUGIN = PluginInfo(
    summary="EMA, early stopping, best-k, throughput, profiler, freezing, LoRA, compiling"
)

_PACKAGE = "simscaleai_plugin_extensions"
_EXTENSIONS = (
    ("ema", "ema:Ema", "Exponential moving average of the weights, used in evaluations"),
    (
        "early-stopping",
        "early_stopping:EarlyStopping",
        "End the run when a metric stops improving",
    ),
    ("best-k", "best_k:BestK", "Keep the checkpoints of the best evaluations"),
    ("throughput", "throughput:Throughput", "Time per step and memory as metrics"),
    ("profiler", "profiler:Profiler", "Chrome trace of a few steps"),
    ("freeze", "freeze:Freeze", "Leave parameters as they are, by name"),
    ("compile", "compiling:Compile", "Train through torch.compile"),
)

simscale_register_extensions = provides(
    *(
        ExtensionSpec(
            name=name,
            target=f"{_PACKAGE}.{target}",
            options=f"{_PACKAGE}.options:{target.partition(':')[2]}Options",
            summary=summary,
        )
        for name, target, summary in _EXTENSIONS
    )
)

simscale_register_adapters = provides(
    AdapterSpec(
        name="lora",
        target=f"{_PACKAGE}.lora:apply",
        merge=f"{_PACKAGE}.lora:merge",
        options=f"{_PACKAGE}.options:LoraOptions",
        summary="Low-rank weights beside the linear layers, through peft",
    )
)
