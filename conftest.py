"""Every test runs with the shapes and types of all annotations checked, by jaxtyping and beartype."""

from jaxtyping import install_import_hook

install_import_hook(["ae_core", "ae_jax", "ae_torch", "parity_tests.check", "parity_tests.twins"], "beartype.beartype")
