from ae_core.cli import main_torch

if __name__ == "__main__":
    main_torch()
