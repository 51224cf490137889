from ae_core.commands.cli import main_torch

if __name__ == "__main__":
    main_torch()
