"""Rate and distortion of this codec and of its peers, measured on folders of images."""

from importlib.util import find_spec

from mvmic_codec.errors import MvmError


def require(*packages: str, extra: str = "eval") -> None:
    """Raise MvmError if a package of an extra is missing, before hours of work are lost."""
    for package in packages:
        if find_spec(package) is None:
            raise MvmError(
                f"{package} is not installed; pip install 'mvmic_codec[{extra}]' brings it"
            )
