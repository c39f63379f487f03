"""Another plugin with an environment of the same short name."""

from simscaleai_core.plugin import EnvSpec, PluginInfo, hookimpl

PLUGIN = PluginInfo(summary="Another dot")


@hookimpl
def simscale_register_envs():
    yield EnvSpec(name="dot", target="toy_dot:make_dot", summary="another")
