"""What this plugin offers."""

from __future__ import annotations

from simscaleai_core.plugin import ModelSpec, PluginInfo, provides

PLUGIN = PluginInfo(summary="Behaviour cloning", selects={"model": "bc"})

_PACKAGE = "simscaleai_plugin_bc"
_FAMILY = (
    (
        "bc",
        "policy:BCPolicy",
        "BCOptions",
        "MLP from the state (and images, if asked) to the action",
    ),
    ("bc-chunk", "policies:ChunkedBCPolicy", "ChunkedOptions", "MLP to the next actions"),
    ("bc-gmm", "policies:MixturePolicy", "MixtureOptions", "MLP to a mixture of Gaussians"),
    ("bc-rnn", "recurrent:RecurrentPolicy", "RecurrentOptions", "recurrent network with memory"),
    ("act", "act:ACTPolicy", "ACTOptions", "action chunking with transformers"),
    ("diffusion", "policies:DiffusionPolicy", "DiffusionOptions", "chunks denoised from noise"),
    ("flow", "policies:FlowPolicy", "FlowOptions", "chunks by flow matching"),
)
_RECOMMENDED = {"lr": 1e-3, "batch_size": 256, "warmup_steps": 100, "max_steps": 5000}
_OWN = {"act": {"batch_size": 64}, "bc-rnn": {"max_steps": 3000}}
_REACHED = {
    "bc": "100% (98.1 to 100, n=200) in 21 CPU seconds",
    "bc-chunk": "100% (98.1 to 100, n=200) in 25 CPU seconds",
    "bc-gmm": "99% (96.4 to 99.7, n=200) in 24 CPU seconds",
    "bc-rnn": "100% (98.1 to 100, n=200) in 74 CPU seconds",
    "act": "100% (98.1 to 100, n=200) in 105 CPU seconds",
    "diffusion": "100% (98.1 to 100, n=200) in 47 CPU seconds",
    "flow": "100% (98.1 to 100, n=200) in 44 CPU seconds",
}
_TASK = " on pick_place, 200 demonstrations, one training seed"

simscale_register_models = provides(
    *(
        ModelSpec(
            name=name,
            target=f"{_PACKAGE}.{target}",
            options=f"{_PACKAGE}.options:{options}",
            summary=summary,
            recommended=_RECOMMENDED | _OWN.get(name, {}),
            reached=_REACHED[name] + _TASK,
        )
        for name, target, options, summary in _FAMILY
    )
)
