import pytest
import torch
from task_files import write_item

from mvmic_codec.tasks import archive


@pytest.fixture(scope="session")
def items(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    return [write_item(folder, seed) for seed in range(2)]


@pytest.fixture(scope="session")
def files(items, tmp_path_factory):
    """An archive of the items at two rates, and of their mirror images."""
    folder = tmp_path_factory.mktemp("archive")
    rates = {item.name: [18, 27] for item in items}
    archive.write_archive(items, folder, rates, mirrored=True, device="cpu")
    return folder


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
