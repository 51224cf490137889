from ae_core.cli import main_jax

if __name__ == "__main__":
    main_jax()
