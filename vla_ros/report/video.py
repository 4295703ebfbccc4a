# SPDX-License-Identifier: Apache-2.0
"""An mp4 of an episode at real-time speed, from the images in its bag."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError, RecordingError
from vla_ros.recording.reader import Episode, EpisodeBag

Image = NDArray[np.uint8]

_STRIP_PX = 44
_INK = (235, 235, 235)
_SOFT = (165, 165, 165)


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Appearance of the video: frames per second, height of the images [px], cameras, quality."""

    fps: int = 20
    height_px: int = 360
    cameras: tuple[str, ...] = ("scene_camera", "wrist_camera")
    crf: int = 26  # x264's constant rate factor, lower is better

    def __post_init__(self) -> None:
        if not 1 <= self.fps <= 120:
            raise ConfigError(f"fps must be within 1..120, got {self.fps}")
        if not 64 <= self.height_px <= 2160:
            raise ConfigError(f"height_px must be within 64..2160, got {self.height_px}")
        if not self.cameras:
            raise ConfigError("cameras must name at least one camera")
        if not 0 <= self.crf <= 51:
            raise ConfigError(f"crf must be within 0..51, got {self.crf}")


class _Track:
    """Images of one camera, decoded on demand; answers "what was seen last at time t"."""

    def __init__(self, images: Iterable[tuple[float, bytes]], height_px: int) -> None:
        ordered = sorted(images, key=lambda item: item[0])
        self._times = [t for t, _ in ordered]
        self._data = [data for _, data in ordered]
        self._height_px = height_px
        self._cached: tuple[int, Image] | None = None

    def __bool__(self) -> bool:
        return bool(self._times)

    def at(self, t_s: float) -> Image:
        """Return the newest image not after ``t_s`` (the first one before that), RGB, scaled."""
        i = max(0, bisect.bisect_right(self._times, t_s) - 1)
        if self._cached is None or self._cached[0] != i:
            self._cached = (i, self._decode(self._data[i]))
        return self._cached[1]

    def _decode(self, data: bytes) -> Image:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if decoded is None:
            raise RecordingError("a recorded image cannot be decoded")
        scale = self._height_px / decoded.shape[0]
        width = round(decoded.shape[1] * scale)
        sized = cv2.resize(decoded, (width, self._height_px), interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(sized[:, :, ::-1])


def write_video(path: Path, bags: Sequence[Path], config: VideoConfig | None = None) -> int:
    """Write the episodes one after the other and return the number of frames.

    Every frame shows the newest image of each camera at that time, so the speed is real whatever
    the cameras' rates. H.264, yuv420p: plays in any browser.

    Raises:
        RecordingError: if no bag holds an image, or one cannot be decoded.
    """
    config = config or VideoConfig()
    temporary = path.with_name(f"{path.stem}.tmp{path.suffix}")
    frames = 0
    size: tuple[int, int] | None = None
    with av.open(str(temporary), "w") as container:
        stream = container.add_stream("libx264", rate=config.fps)
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(config.crf), "preset": "veryfast"}
        stream.codec_context.time_base = Fraction(1, config.fps)
        for bag_path in bags:
            for image in _episode_frames(bag_path, config):
                if size is None:
                    size = (image.shape[1] // 2 * 2, image.shape[0] // 2 * 2)
                    stream.width, stream.height = size
                frame = av.VideoFrame.from_ndarray(_fit(image, size), format="rgb24")
                frame.pts = frames
                container.mux(stream.encode(frame))
                frames += 1
        if frames:
            container.mux(stream.encode())
    if not frames:
        temporary.unlink(missing_ok=True)
        raise RecordingError("no images to make a video from")
    temporary.replace(path)
    return frames


def _episode_frames(bag_path: Path, config: VideoConfig) -> Iterable[Image]:
    bag = EpisodeBag(bag_path)
    episode = bag.load()
    tracks = [t for c in config.cameras if (t := _Track(bag.images(c), config.height_px))]
    if not tracks:
        return
    for i in range(max(1, round(episode.duration_s * config.fps))):
        t_s = i / config.fps
        picture = np.hstack([track.at(t_s) for track in tracks])
        yield np.vstack([picture, _strip(picture.shape[1], episode, t_s)])


def _strip(width: int, episode: Episode, t_s: float) -> Image:
    """Draw the lines under the images: instruction, then phase, age and time."""
    strip = np.full((_STRIP_PX, width, 3), 24, dtype=np.uint8)
    i = int(np.searchsorted(episode.chunks.t_s, t_s, side="right")) - 1
    phase, age = "", ""
    if i >= 0:
        phase = str(episode.chunks.column("phase")[i])
        age_ms = float(episode.chunks.column("latent_age_ms")[i])
        age = f"latent {age_ms:.0f} ms" if np.isfinite(age_ms) else ""
    head = f"#{episode.info.episode_id}  {episode.info.instruction}"
    _text(strip, head, (10, 17), _INK)
    _text(strip, "   ".join(filter(None, (f"{t_s:5.1f} s", phase, age))), (10, 36), _SOFT)
    return strip


def _text(image: Image, text: str, origin: tuple[int, int], colour: tuple[int, int, int]) -> None:
    font = cv2.FONT_HERSHEY_SIMPLEX
    plain = text.encode("ascii", "replace").decode()  # Hershey fonts hold ASCII only
    cv2.putText(image, plain, origin, font, 0.45, colour, 1, cv2.LINE_AA)


def _fit(image: Image, size: tuple[int, int]) -> Image:
    """Return the image at the size of the first frame; a run may mix cameras."""
    width, height = size
    if image.shape[1] - width in (0, 1) and image.shape[0] - height in (0, 1):
        return np.ascontiguousarray(image[:height, :width])
    return np.asarray(cv2.resize(image, size), dtype=np.uint8)
