from ae_core.commands.cli import main_jax

if __name__ == "__main__":
    main_jax()
