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

simscale_register_models = provides(
    *(
        ModelSpec(
            name=name,
            target=f"{_PACKAGE}.{target}",
            options=f"{_PACKAGE}.options:{options}",
            summary=summary,
            recommended=_RECOMMENDED | _OWN.get(name, {}),
        )
        for name, target, options, summary in _FAMILY
    )
)
