"""Every parameter of the method: frozen dataclasses, presets, and their YAML form.

Units are in the names. The resolved configuration is written beside every checkpoint and read back from there.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from ser_tf.documents import read_yaml
from ser_tf.errors import UserError, quoted

SAMPLE_RATE_HZ = 16_000
"""Rate of every waveform in the project."""
SHORTEST_CROP_SECONDS = 0.1
NARROWEST_WIDTH = 0.125
"""The narrowest width tested: at 0.05 TensorFlow 2.21 crashed in training on a CPU."""
LARGEST_EMBEDDING = 2**15
"""Clusters times descriptor size; 4096 in the paper."""


def _expect(config: Any, names: tuple[str, ...], at_least: float = -math.inf, at_most: float = math.inf) -> None:
    for name in names:
        value = getattr(config, name)
        if not at_least <= value <= at_most:  # also true for NaN
            bound = f"at least {at_least}" if value < at_least else f"at most {at_most}"
            raise UserError(f"{name}: expected {bound}. Received: {name}={quoted(value)}")


@dataclass(frozen=True)
class AudioConfig:
    """How recordings are decoded."""

    backend: Literal["soundfile", "tfio"] = "soundfile"
    """`soundfile` decodes with libsndfile; `tfio` decodes in the tf.data graph and needs the extra `[tfio]`."""


@dataclass(frozen=True)
class VadConfig:
    """Silence removal with WebRTC's voice activity detector."""

    mode: Literal[0, 1, 2, 3] = 2
    """Aggressiveness: 3 removes most."""
    frame_milliseconds: Literal[10, 20, 30] = 30
    padding_frames: int = 0
    """Frames kept on each side of speech, beyond the detector's own hangover."""
    minimum_speech_seconds: float = 0.5
    """With less speech than this, the whole waveform is kept."""

    def __post_init__(self) -> None:
        _expect(self, at_least=0, at_most=1000, names=("padding_frames", "minimum_speech_seconds"))

    def frame_samples(self, rate_hz: int = SAMPLE_RATE_HZ) -> int:
        """Samples of one frame at that rate."""
        return rate_hz * self.frame_milliseconds // 1000


@dataclass(frozen=True)
class SpectrogramConfig:
    """Short-time Fourier transform and its normalisation (paper, section 3.1)."""

    window_samples: int = 512
    hop_samples: int = 160
    fft_samples: int = 512
    compression: Literal["none", "power", "log"] = "none"
    """`none` magnitude, `power` magnitude ** 0.3, `log` ln(magnitude + 1e-3)."""
    normalisation: Literal["global", "per_bin", "per_frame"] = "global"
    """Zero mean and unit deviation over the whole utterance, each bin over time, or each frame over bins."""
    deviation_offset: float = 0.0
    """Added to the deviation before the division."""
    window: Literal["hamming", "hann"] = "hamming"
    framing: Literal["inside", "centred"] = "inside"
    """`inside`: no frame extends beyond the speech. `centred`: frame t is centred at sample t * hop, and the speech is
    mirrored at its ends."""
    reversal: Literal["none", "appended"] = "none"
    """`appended`: the reversed speech follows the speech."""

    def __post_init__(self) -> None:
        _expect(self, at_least=0, at_most=1000, names=("deviation_offset",))
        _expect(self, at_least=16, at_most=2048, names=("window_samples", "hop_samples"))
        _expect(self, at_least=self.window_samples, at_most=2048, names=("fft_samples",))

    @property
    def bins(self) -> int:
        """Frequency bins of a frame: 257 for an FFT of 512."""
        return self.fft_samples // 2 + 1

    def frames(self, samples: Any) -> Any:
        """Number of frames for a number of samples, an int or a tensor; 0 or less without a whole window."""
        if self.reversal == "appended":
            samples = 2 * samples
        return 1 + (samples if self.framing == "centred" else samples - self.window_samples) // self.hop_samples


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes to the spectrograms of training crops, drawn for each crop. 0 turns a change off."""

    time_stretch: float = 0.0
    """Speech becomes exp(u) times as long, u uniform between minus and plus this."""
    frequency_warp: float = 0.0
    """Frequencies are multiplied by exp(u), u uniform between minus and plus this."""
    equaliser_tilt: float = 0.0
    """Standard deviation of the gain from the lowest to the highest frequency, in nepers."""
    equaliser_ripple: float = 0.0
    """Strength of a random ripple of the gain over frequency: standard deviation of its first cosine, in nepers; the
    second has half of it, the third a third."""
    noise_probability: float = 0.0
    """Share of crops with noise: the mean power of white or pink noise, equally often."""
    noise_snr_db: tuple[float, float] = (5.0, 25.0)
    """Range of the uniform signal-to-noise ratio."""
    time_masks: int = 0
    """SpecAugment (Park et al. 2019): number of bands of the normalised spectrogram set to 0, its mean."""
    time_mask_frames: int = 30
    """Longest time mask."""
    frequency_masks: int = 0
    frequency_mask_bins: int = 24
    """Widest frequency mask."""

    def __post_init__(self) -> None:
        counts = ("time_masks", "time_mask_frames", "frequency_masks", "frequency_mask_bins")
        _expect(self, at_least=0, at_most=1000, names=counts)
        _expect(self, at_least=0, at_most=1, names=("noise_probability", "time_stretch", "frequency_warp"))
        _expect(self, at_least=0, at_most=10, names=("equaliser_tilt", "equaliser_ripple"))
        if not all(-100 <= ratio <= 100 for ratio in self.noise_snr_db):
            raise UserError(f"noise_snr_db: expected -100 to 100. Received: noise_snr_db={self.noise_snr_db}")

    @property
    def is_on(self) -> bool:
        """Whether any change can happen."""
        strengths = (self.time_stretch, self.frequency_warp, self.equaliser_tilt, self.equaliser_ripple)
        return any((*strengths, self.noise_probability, self.time_masks, self.frequency_masks))


@dataclass(frozen=True)
class NetworkConfig:
    """SE-ResNet-34 and GhostVLAD (paper, sections 3.1 and 3.2)."""

    width: float = 1.0
    """Factor on the channels of every convolution before the descriptors."""
    channel_multiple: int = 8
    """Channels are rounded up to a multiple of this. CPUs are faster with multiples of 16."""
    stem_stride: Literal[1, 2] = 1
    """Stride of the 7x7 convolution, in time and frequency."""
    final_pool_time_stride: Literal[1, 2] = 2
    """With `stem_stride` 2, a stride of 1 here keeps one descriptor per 32 frames."""
    squeeze_reduction: int = 16
    """Channels per hidden unit of squeeze-and-excitation; 0 leaves it out."""
    aggregation: Literal["ghost_vlad", "vggvox"] = "ghost_vlad"
    """`ghost_vlad`: descriptors assign clusters, and V is the embedding. `vggvox`: a separate convolution assigns
    clusters, and a dense layer after V gives the embedding."""
    descriptor_size: int = 512
    clusters: int = 8
    ghost_clusters: int = 2
    head_units: int = 512
    """Hidden units of the softmax head."""

    def __post_init__(self) -> None:
        _expect(self, at_least=NARROWEST_WIDTH, at_most=2, names=("width",))
        _expect(self, at_least=0, at_most=128, names=("squeeze_reduction", "ghost_clusters"))
        if self.channel_multiple not in (8, 16, 32):
            raise UserError(
                "channel_multiple: expected 8, 16 or 32 (others corrupted the heap in TensorFlow 2.21 on a CPU). "
                f"Received: channel_multiple={self.channel_multiple}"
            )
        _expect(self, at_least=1, at_most=128, names=("clusters",))
        _expect(self, at_least=1, at_most=2048, names=("descriptor_size", "head_units"))
        if self.clusters * self.descriptor_size > LARGEST_EMBEDDING:
            raise UserError(
                f"clusters: expected at most {LARGEST_EMBEDDING // self.descriptor_size} with descriptor_size="
                f"{self.descriptor_size}. Received: clusters={self.clusters}"
            )


@dataclass(frozen=True)
class LossConfig:
    """Metric losses (paper, section 3.3, eq. 4 to 7)."""

    mining: Literal["hard", "semihard", "all"] = "all"
    alpha: float = 0.1
    """Margin between positives (same emotion) and related samples (same polarity, different emotion); in the plain
    triplet loss, between positives and negatives."""
    beta: float = 0.15
    """Margin between related and negative samples."""
    neutral: Literal["excluded", "negative"] = "excluded"
    """Whether neutral utterances are negatives of an anchor with a polarity."""
    softmax_weight: float = 0.0
    """Weight of a softmax term added to the metric loss."""

    def __post_init__(self) -> None:
        _expect(self, at_least=0, at_most=1_000_000, names=("alpha", "beta", "softmax_weight"))


@dataclass(frozen=True)
class TrainingConfig:
    """Training schedule (paper, section 4.3)."""

    batch_size: int = 32
    batches: Literal["plain", "balanced", "corpora"] = "balanced"
    """`balanced`: every batch holds every emotion; the metric losses need it. `corpora`: each batch is dealt evenly to
    the corpora, and each corpus's share to its emotions."""
    schedule: Literal["step", "cosine"] = "step"
    """`step`: the learning rate falls by a factor every few epochs; the epoch with the best validation score is kept.
    `cosine`: the learning rate rises over `warm_up_steps` and follows a cosine to 0 over `steps`; the last weights are
    kept."""
    learning_rate: float = 1e-3
    learning_rate_from_weights: float = 0.0
    """Unless 0, replaces `learning_rate` if the network starts from given weights."""
    learning_rate_factor: float = 0.1
    """For `step`: the learning rate is multiplied by this every `learning_rate_epochs`."""
    learning_rate_epochs: int = 20
    maximum_epochs: int = 80
    """For `step`."""
    patience_epochs: int = 15
    """For `step`: training stops after this many epochs without a better score."""
    steps: int = 4000
    """For `cosine`: batches, rounded up to whole epochs."""
    steps_from_weights: int = 0
    """Unless 0, replaces `steps` if the network starts from given weights."""
    warm_up_steps: int = 100
    """For `cosine`."""
    weight_decay: float = 0.0
    """For AdamW; normalisations and biases do not decay."""
    average_momentum: float = 0.0
    """Above 0, an exponential moving average of the weights with this momentum per step is kept instead of the weights.
    Only with `cosine`."""
    label_smoothing: float = 0.0
    """Share of each target that the softmax loss spreads evenly over all classes."""
    crop_seconds: float = 2.5
    crop_variation: float = 0.0
    """Each batch draws one of five crop lengths, from (1 - this) to (1 + this) times `crop_seconds`. With crops of one
    length, the network recognises shorter and longer speech worse. Pre-training on speakers does not vary."""
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("batch_size", "learning_rate_epochs", "maximum_epochs", "patience_epochs")
        _expect(self, at_least=1, at_most=100_000, names=counts)
        _expect(self, at_least=1, at_most=10_000_000, names=("steps",))
        _expect(self, at_least=0, at_most=10_000_000, names=("steps_from_weights", "warm_up_steps"))
        _expect(self, at_least=0, at_most=100, names=("learning_rate", "learning_rate_from_weights"))
        _expect(self, at_least=0, at_most=1, names=("learning_rate_factor", "weight_decay"))
        _expect(self, at_least=0, at_most=0.9999, names=("average_momentum", "label_smoothing"))
        _expect(self, at_least=0, at_most=2**32 - 1, names=("seed",))
        _expect(self, at_least=0, at_most=0.9, names=("crop_variation",))
        shortest = SHORTEST_CROP_SECONDS / (1 - self.crop_variation)
        _expect(self, at_least=shortest, at_most=60 / (1 + self.crop_variation), names=("crop_seconds",))
        if self.average_momentum > 0 and self.schedule != "cosine":
            raise UserError(
                "average_momentum: expected 0 with the schedule step, which keeps the weights of one epoch. Received: "
                f"average_momentum={self.average_momentum}; choose training.schedule cosine"
            )

    def steps_of(self, from_weights: bool) -> int:
        """Steps of a training with `cosine` that starts from weights, or from random ones."""
        return (self.steps_from_weights if from_weights else 0) or self.steps

    def learning_rate_of(self, from_weights: bool) -> float:
        """Learning rate of a training that starts from weights, or from random ones."""
        return (self.learning_rate_from_weights if from_weights else 0) or self.learning_rate


ONLY_WITH_SCHEDULE = {
    "step": ("learning_rate_factor", "learning_rate_epochs", "maximum_epochs", "patience_epochs"),
    "cosine": ("steps", "steps_from_weights", "warm_up_steps"),
}
"""Training parameters that have no effect with the other schedule."""


@dataclass(frozen=True)
class PretrainingConfig:
    """Pre-training on speaker identity; `TrainingConfig` holds schedule, crops and seed."""

    loss: Literal["softmax", "am_softmax"] = "softmax"
    """`am_softmax`: additive margin (Wang et al. 2018) on the cosines between embedding and speaker."""
    margin: float = 0.35
    """For am_softmax: the cosine to the true speaker should exceed the others by this."""
    scale: float = 30.0
    """For am_softmax: factor on all cosines."""
    held_out: float = 0.15
    """Held-out speakers: below 1 a share of those with at least two recordings, otherwise a number. Half of them score
    the epochs, half are tested; with --trial-list all of them score the epochs."""
    trials: int = 4000
    """Maximum number of pairs of recordings compared on each side."""

    def __post_init__(self) -> None:
        _expect(self, at_least=0, at_most=1000, names=("margin", "scale"))
        _expect(self, at_least=0, at_most=1_000_000, names=("held_out",))
        _expect(self, at_least=2, at_most=10_000_000, names=("trials",))


@dataclass(frozen=True)
class Config:
    """The whole method."""

    audio: AudioConfig = field(default_factory=AudioConfig)
    vad: VadConfig = field(default_factory=VadConfig)
    spectrogram: SpectrogramConfig = field(default_factory=SpectrogramConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def save(self, path: Path) -> None:
        """Write the configuration as YAML."""
        path.write_text(yaml.safe_dump(self.as_mapping(), sort_keys=False))

    @classmethod
    def load(cls, path: Path) -> "Config":
        """Read a configuration written by `save`; missing values keep their defaults.

        Raises:
            UserError: the file is not a small YAML mapping, or has an unknown parameter or an invalid value.
        """
        data = read_yaml(path, "a configuration in YAML")
        return cls.of({} if data is None else data, where=str(path))

    def as_mapping(self) -> dict[str, Any]:
        """The configuration as plain values, for JSON or YAML."""
        return _plain(dataclasses.asdict(self))

    @classmethod
    def of(cls, mapping: Any, where: str) -> "Config":
        """The configuration of plain values; those left out keep their defaults.

        Args:
            mapping: as `as_mapping` gives it.
            where: where it was read, for the message.

        Raises:
            UserError: it is no mapping, names a parameter that does not exist, or gives one a value it cannot have.
        """
        return _from_mapping(cls, mapping, where)


PRESETS: dict[str, Config] = {
    "paper": Config(),
    "compact": Config(
        spectrogram=SpectrogramConfig(compression="log"),
        augmentation=AugmentationConfig(
            time_stretch=0.22, frequency_warp=0.15, equaliser_tilt=0.5, equaliser_ripple=0.3
        ),
        network=NetworkConfig(width=0.25, channel_multiple=16, stem_stride=2, final_pool_time_stride=1),
        training=TrainingConfig(
            schedule="cosine",
            learning_rate=2e-3,
            learning_rate_from_weights=1e-3,
            steps=3000,
            steps_from_weights=1500,
            label_smoothing=0.1,
            crop_seconds=2.0,
            crop_variation=0.5,
        ),
    ),
    "tiny": Config(
        spectrogram=SpectrogramConfig(compression="log"),
        network=NetworkConfig(
            width=0.125,
            stem_stride=2,
            final_pool_time_stride=1,
            squeeze_reduction=4,
            descriptor_size=64,
            head_units=64,
        ),
        training=TrainingConfig(maximum_epochs=20, patience_epochs=10),
    ),
    "vggvox": Config(
        vad=VadConfig(minimum_speech_seconds=60),  # the maximum length: no silence is removed
        spectrogram=SpectrogramConfig(
            window_samples=400,
            normalisation="per_frame",
            deviation_offset=1e-5,
            window="hann",
            framing="centred",
            reversal="appended",
        ),
        network=NetworkConfig(final_pool_time_stride=1, squeeze_reduction=0, aggregation="vggvox"),
    ),
}
"""Named configurations. `paper` is the published method, with this project's choices where the paper says nothing;
`compact` fits a laptop; `tiny` is for tests and the demo; `vggvox` is the ancestor of the published network (Xie et
al., ICASSP 2019), whose weights `ser-tf import-vggvox` converts."""


def preset(name: str) -> Config:
    """The preset of that name.

    Raises:
        UserError: there is no such preset.
    """
    if name not in PRESETS:
        raise UserError(f"preset: expected one of {', '.join(PRESETS)}. Received: {name}")
    return PRESETS[name]


def changed(config: Config, parameters: Mapping[str, Any]) -> Config:
    """A copy of the configuration with some parameters changed.

    Args:
        config: gives all other parameters.
        parameters: full names, such as "network.clusters", and values as in YAML.

    Raises:
        UserError: an unknown parameter or an invalid value.
    """
    for name, value in parameters.items():
        room, _, parameter = name.partition(".")
        rooms = get_type_hints(Config)
        hints = get_type_hints(rooms[room]) if room in rooms else {}
        if parameter not in hints:
            expected = [f"{room}.{known}" for known in hints] or [f"{known}.PARAMETER" for known in rooms]
            raise UserError(f"unknown parameter {name!r}; expected one of {', '.join(expected)}")
        checked = _checked(value, hints[parameter], where=name)
        config = dataclasses.replace(
            config, **{room: dataclasses.replace(getattr(config, room), **{parameter: checked})}
        )
    return config


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _from_mapping(cls: type, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise UserError(f"{where}: expected a mapping of parameters. Received: {quoted(data)}")
    hints = get_type_hints(cls)
    unknown = [name for name in data if name not in hints]
    if unknown:
        raise UserError(f"{where}: unknown parameter {quoted(unknown[0])}; expected one of {', '.join(hints)}")
    values = {name: _checked(value, hints[name], where=f"{where}: {name}") for name, value in data.items()}
    try:
        return cls(**values)
    except UserError as error:  # out of bounds
        raise UserError(f"{where}: {error}") from None


def _checked(value: Any, kind: Any, where: str) -> Any:
    """The value from a file, converted to a parameter's type."""
    if dataclasses.is_dataclass(kind):
        return _from_mapping(kind, value, where)  # type: ignore[arg-type]
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        if value in choices and type(value) is type(choices[0]):  # True and 1.0 equal 1
            return value
        expected = f"one of {', '.join(map(str, choices))}"
    elif get_origin(kind) is tuple:
        kinds = get_args(kind)
        if isinstance(value, list) and len(value) == len(kinds):
            return tuple(_checked(item, item_kind, where) for item, item_kind in zip(value, kinds, strict=True))
        expected = f"a list of {len(kinds)} numbers"
    elif kind is int:
        if type(value) is int:
            return value
        expected = "a whole number"
    else:
        number = _number(value)
        if number is not None:
            return number
        expected = "a number"
    raise UserError(f"{where}: expected {expected}. Received: {quoted(value)}")


def _number(value: Any) -> float | None:
    """A finite float, or None. Text is accepted because YAML 1.1 reads 1e-3 as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
