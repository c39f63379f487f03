"""A third party's plugin: an environment with a batch, an expert and images."""

from simscaleai_core.plugin import EnvSpec, PluginInfo, hookimpl

PLUGIN = PluginInfo(summary="A dot", requires_api=">=1.1,<2")


@hookimpl
def simscale_register_envs():
    yield EnvSpec(
        name="dot",
        target="toy_dot:make_dot",
        env_id="Toys/Dot-v0",
        expert="toy_dot:expert",
        image_options="toy_dot:image_options",
        variations={"stride": "length of a step"},
        recommended_noise=0.2,
        summary="bring a dot to its goal",
    )
    yield EnvSpec(name="cart", target="toy_dot:make_cart", summary="only a target")
    yield EnvSpec(name="lost", target="toy_dot:make_dot", env_id="Toys/Lost-v0")
