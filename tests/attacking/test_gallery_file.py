"""The gallery of an attack is read back as it was written."""

import json

import numpy as np
from running import attack_run, do

from runner.report.load import read_gallery
from runner.store.files import read_tensors


def test_the_gallery_reads_as_it_was_written(compose) -> None:
    config = compose()
    do(config)
    run = attack_run(config)
    read = read_tensors(run.folder / "gallery.safetensors")
    assert read is not None
    gallery, about = read_gallery(run.folder / "gallery.safetensors", run.columns), json.loads(read[1]["gallery"])
    assert (gallery.group_id, gallery.seed) == (run.columns["group_id"], 0)
    assert (gallery.epsilon, gallery.norm, gallery.metric, gallery.examples) == tuple(about.values())
    for name, tensor in read[0].items():
        assert getattr(gallery, name).dtype == np.float32
        assert np.array_equal(getattr(gallery, name), tensor.numpy())
