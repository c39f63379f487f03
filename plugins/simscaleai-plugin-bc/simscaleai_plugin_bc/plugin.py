"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from simscaleai_core.plugin import ModelSpec, PluginInfo, hookimpl

PLUGIN = PluginInfo(summary="Behaviour cloning", selects={"model": "bc"})

_PACKAGE = "simscaleai_plugin_bc"
_FAMILY = (
    (
        "bc",
        "policy:BCPolicy",
        "BCOptions",
        "MLP from the state (and images, if asked) to the action",
    ),
    ("bc-chunk", "chunked:ChunkedBCPolicy", "ChunkedOptions", "MLP to the next actions"),
    ("bc-gmm", "chunked:MixturePolicy", "MixtureOptions", "MLP to a mixture of Gaussians"),
    ("bc-rnn", "recurrent:RecurrentPolicy", "RecurrentOptions", "recurrent network with memory"),
    ("act", "act:ACTPolicy", "ACTOptions", "action chunking with transformers"),
    ("diffusion", "chunked:DiffusionPolicy", "DiffusionOptions", "chunks denoised from noise"),
    ("flow", "chunked:FlowPolicy", "FlowOptions", "chunks by flow matching"),
)


@hookimpl
def simscale_register_models() -> Iterator[ModelSpec]:
    """Offer the policies of the family."""
    for name, target, options, summary in _FAMILY:
        yield ModelSpec(
            name=name,
            target=f"{_PACKAGE}.{target}",
            options=f"{_PACKAGE}.options:{options}",
            summary=summary,
        )
