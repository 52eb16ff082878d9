from __future__ import annotations

import numpy as np

from training.data.random_streams import Stream, generator


def test_no_two_streams_draw_the_same() -> None:
    draws = {float(generator(0, stream, 5).random()) for stream in Stream}
    assert len(draws) == len(Stream)


def test_a_draw_depends_on_seed_and_position_alone() -> None:
    first, again = (generator(3, Stream.NIGHT_VIEW, 7).random(4) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, generator(3, Stream.NIGHT_VIEW, 8).random(4))
    assert not np.array_equal(first, generator(4, Stream.NIGHT_VIEW, 7).random(4))
