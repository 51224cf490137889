"""What JAX has to be told about a CPU before its first use: for commands, since it holds for the whole process."""

import os
from contextlib import suppress

import jax

from ae_core.system.environment import usable_cores


def configure_cpu() -> None:
    """Make each core a device, and run a program on one device in the thread that calls it; before JAX's first use.

    The latter spares a small program, an image's way through a model, half its time: it is not handed to another
    thread to be waited for in this one. ``JAX_NUM_CPU_DEVICES`` and ``JAX_CPU_ENABLE_ASYNC_DISPATCH`` have precedence.
    """
    counted = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if jax.config.values["jax_num_cpu_devices"] < 1 and not counted:
        with suppress(RuntimeError):  # JAX runs already, with the devices it has
            jax.config.update("jax_num_cpu_devices", usable_cores())
    if "JAX_CPU_ENABLE_ASYNC_DISPATCH" not in os.environ:
        jax.config.update("jax_cpu_enable_async_dispatch", False)
