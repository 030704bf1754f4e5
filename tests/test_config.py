import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml

from ser_tf.config import (
    PRESETS,
    AugmentationConfig,
    Config,
    LossConfig,
    NetworkConfig,
    PretrainingConfig,
    SpectrogramConfig,
    TrainingConfig,
    VadConfig,
    preset,
)
from ser_tf.errors import UserError

CHANGED = Config(
    vad=VadConfig(mode=3, frame_milliseconds=10, padding_frames=2, minimum_speech_seconds=0.25),
    spectrogram=SpectrogramConfig(compression="log", normalisation="per_bin"),
    augmentation=AugmentationConfig(time_masks=2, noise_probability=0.5, noise_snr_db=(0.1, 1e-7)),
    network=NetworkConfig(width=1 / 3, ghost_clusters=0),
    loss=LossConfig(mining="semihard", softmax_weight=1e-22),
    training=TrainingConfig(learning_rate=1e-5, precision="mixed_bfloat16", seed=7),
)


@pytest.fixture
def load(tmp_path):
    """Reads a configuration from text, or bytes, in a file named mine.yaml."""

    def from_content(content: str | bytes) -> Config:
        path = tmp_path / "mine.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return Config.load(path)

    return from_content


@pytest.mark.parametrize("config", [*PRESETS.values(), CHANGED], ids=[*PRESETS, "changed"])
def test_a_saved_configuration_comes_back(config, tmp_path):
    path = tmp_path / "config.yaml"
    config.save(path)
    assert Config.load(path) == config
    assert yaml.safe_load(path.read_text())["augmentation"]["noise_snr_db"] == list(config.augmentation.noise_snr_db)


def test_what_a_file_leaves_out_keeps_its_default(load):
    assert load("") == Config()
    assert load("training: {seed: 3}\n") == Config(training=TrainingConfig(seed=3))


def test_numbers_take_the_type_of_their_parameter(load):
    # YAML 1.1 takes 1 for a whole number, and 1e-4, which has no dot, for text.
    config = load("training: {learning_rate: 1e-4}\nloss: {alpha: 1}\naugmentation: {noise_snr_db: [0, 10]}\n")
    assert config.training.learning_rate == 0.0001
    assert config == Config(
        training=TrainingConfig(learning_rate=1e-4),
        loss=LossConfig(alpha=1.0),
        augmentation=AugmentationConfig(noise_snr_db=(0.0, 10.0)),
    )
    assert type(config.loss.alpha) is float


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("network: {widht: 1.0}", "network: unknown parameter 'widht'; expected one of width, channel_multiple, "),
        ("networks: {}", "unknown parameter 'networks'; expected one of audio, vad, spectrogram, "),
        ("network:", "network: expected a mapping of parameters. Received: None"),
        ("network: {width: wide}", "network: width: expected a number. Received: 'wide'"),
        ("network: {width: yes}", "network: width: expected a number. Received: True"),
        ("network: {width: .nan}", "network: width: expected a number. Received: nan"),
        ("network: {width: [1.0]}", "network: width: expected a number. Received: [1.0]"),
        ("network: {clusters: 8.0}", "network: clusters: expected a whole number. Received: 8.0"),
        ("network: {clusters: true}", "network: clusters: expected a whole number. Received: True"),
        ("network: {clusters: '8'}", "network: clusters: expected a whole number. Received: '8'"),
        ("network: {clusters: }", "network: clusters: expected a whole number. Received: None"),
        ("loss: {mining: easy}", "loss: mining: expected one of hard, semihard, all. Received: 'easy'"),
        ("loss: {mining: [all]}", "loss: mining: expected one of hard, semihard, all. Received: ['all']"),
        ("vad: {mode: 4}", "vad: mode: expected one of 0, 1, 2, 3. Received: 4"),
        ("vad: {mode: 2.0}", "vad: mode: expected one of 0, 1, 2, 3. Received: 2.0"),
        ("vad: {mode: true}", "vad: mode: expected one of 0, 1, 2, 3. Received: True"),
        ("augmentation: {noise_snr_db: 5}", "noise_snr_db: expected a list of 2 numbers. Received: 5"),
        ("augmentation: {noise_snr_db: [5]}", "noise_snr_db: expected a list of 2 numbers. Received: [5]"),
        ("augmentation: {noise_snr_db: [5, loud]}", "noise_snr_db: expected a number. Received: 'loud'"),
        ("- a\n- list", "expected a mapping of parameters. Received: ['a', 'list']"),
        ("[]", "expected a mapping of parameters. Received: []"),
        ("network: [", "expected a configuration in YAML; while parsing"),
        (b"network: \xff", "expected a configuration in YAML; 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_mistakes_in_a_file_are_reported_in_one_line(load, content, message):
    with pytest.raises(UserError) as caught:
        load(content)
    line = str(caught.value)
    assert "mine.yaml: " in line
    assert message in line
    assert "\n" not in line


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match=r"absent\.yaml: expected a configuration in YAML; .*No such file"):
        Config.load(tmp_path / "absent.yaml")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_found_by_its_name(name):
    assert preset(name) is PRESETS[name]


def test_an_unknown_preset_is_refused():
    with pytest.raises(UserError, match=r"^preset: expected one of paper, compact, tiny.* Received: huge"):
        preset("huge")


def test_the_paper_preset_is_the_published_method():
    # design/method.md: sections 2 (signal), 3 (network), 4 (margins), 5 (schedule).
    paper = dataclasses.asdict(PRESETS["paper"])
    published = {
        "spectrogram": {
            "window_samples": 512,  # 32 ms at 16 kHz
            "hop_samples": 160,  # 10 ms
            "fft_samples": 512,
            "compression": "none",
            "normalisation": "global",
            "deviation_offset": 0.0,
            "window": "hamming",
            "framing": "inside",
            "reversal": "none",
        },
        "augmentation": {"time_masks": 0, "frequency_masks": 0, "noise_probability": 0.0},
        "network": {
            "width": 1.0,
            "stem_stride": 1,
            "final_pool_time_stride": 2,
            "squeeze_reduction": 16,
            "aggregation": "ghost_vlad",
            "descriptor_size": 512,
            "clusters": 8,
            "ghost_clusters": 2,
            "head_units": 512,
        },
        "loss": {"alpha": 0.1, "beta": 0.15, "softmax_weight": 0.0},
        "training": {
            "batch_size": 32,
            "learning_rate": 0.001,
            "learning_rate_factor": 0.1,
            "learning_rate_epochs": 20,
            "maximum_epochs": 80,
            "patience_epochs": 15,
            "crop_seconds": 2.5,
            "precision": "float32",
        },
        "vad": {"mode": 2, "frame_milliseconds": 30, "padding_frames": 0, "minimum_speech_seconds": 0.5},
        "audio": {"backend": "soundfile"},
    }
    for part, parameters in published.items():
        assert {name: paper[part][name] for name in parameters} == parameters
    assert PRESETS["paper"].spectrogram.bins == 257


def test_the_configuration_of_an_older_run_means_what_it_meant():
    # Written at commit 9ce7120: no schedule, no label smoothing, channels in multiples of 8, no augmentation.
    path = Path(__file__).parent / "fixtures" / "config-9ce7120.yaml"
    assert Config.load(path) == Config(
        spectrogram=SpectrogramConfig(compression="log"),
        network=NetworkConfig(width=0.25, stem_stride=2, final_pool_time_stride=1),
        training=TrainingConfig(learning_rate_epochs=11, maximum_epochs=16),
    )


def test_a_configuration_written_before_vggvox_means_what_it_meant(load):
    younger = {
        "spectrogram": ("deviation_offset", "window", "framing", "reversal"),
        "network": ("aggregation",),
    }
    for name in ("paper", "compact", "tiny"):
        data = dataclasses.asdict(PRESETS[name])
        data["augmentation"]["noise_snr_db"] = list(data["augmentation"]["noise_snr_db"])  # as the file has it
        for room, names in younger.items():
            for parameter in names:
                del data[room][parameter]
        assert load(yaml.safe_dump(data)) == PRESETS[name]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VadConfig(padding_frames=-1), r"padding_frames: expected at least 0. Received: padding_frames=-1"),
        (lambda: SpectrogramConfig(hop_samples=0), "hop_samples: expected at least 16. Received: hop_samples=0"),
        (lambda: SpectrogramConfig(deviation_offset=-1e-5), "deviation_offset: expected at least 0. Received"),
        (lambda: SpectrogramConfig(fft_samples=256), "fft_samples: expected at least 512. Received: fft_samples=256"),
        (lambda: AugmentationConfig(noise_probability=2.0), "noise_probability: expected at most 1. Received"),
        (lambda: LossConfig(alpha=-0.1), "alpha: expected at least 0. Received: alpha=-0.1"),
        (lambda: TrainingConfig(batch_size=0), "batch_size: expected at least 1. Received: batch_size=0"),
        (lambda: TrainingConfig(crop_seconds=0.01), "crop_seconds: expected at least 0.1. Received"),
    ],
)
def test_values_out_of_range_are_refused_in_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


NUMBERS = [
    (room, name)
    for room, kind in get_type_hints(Config).items()
    for name, hint in get_type_hints(kind).items()
    if hint in (int, float)
]


@pytest.mark.parametrize("value", ["1" + "0" * 10, "-1" + "0" * 10, "9" * 400])
@pytest.mark.parametrize(("room", "name"), NUMBERS)
def test_every_number_has_bounds(load, room, name, value):
    with pytest.raises(UserError, match=rf"mine\.yaml: {room}: ({name}: )?\w+: expected ") as caught:
        load(f"{room}: {{{name}: {value}}}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(PretrainingConfig)][1:])
@pytest.mark.parametrize("value", [1e10, -1e10, math.inf, math.nan])
def test_every_number_of_a_pre_training_has_bounds(name, value):
    with pytest.raises(UserError, match=f"^{name}: expected at "):
        PretrainingConfig(**{name: value})


def test_a_seed_is_32_bits():
    assert TrainingConfig(seed=2**32 - 1).seed == 2**32 - 1
    with pytest.raises(UserError, match=f"^seed: expected at most {2**32 - 1}. Received: seed={2**32}$"):
        TrainingConfig(seed=2**32)


def test_an_embedding_has_bounds(load):
    with pytest.raises(UserError, match=r"network: clusters: expected at most 16 with descriptor_size=2048. Received"):
        load("network: {clusters: 17, descriptor_size: 2048}")  # 16 * 2048 = 2**15


def test_the_ratios_of_noise_have_bounds(load):
    with pytest.raises(UserError, match="noise_snr_db: expected -100 to 100"):
        load("augmentation: {noise_snr_db: [0, 1e9]}")
