from aisandbox_trainer.runtime.progress import FPS_WINDOW_SECONDS, Rate


def test_rate_is_of_the_last_seconds() -> None:
    now = [0.0]
    rate = Rate(clock=lambda: now[0])
    assert rate.sample(0) == 0
    for second in range(1, 31):
        now[0] = float(second)
        last = rate.sample(100 * second)
    assert last == 100
    for second in range(31, 61):
        now[0] = float(second)
        last = rate.sample(3000 + 10 * (second - 30))
    assert last == 10
    assert FPS_WINDOW_SECONDS < 29


def test_rate_survives_a_counter_that_is_set_back() -> None:
    now = [0.0]
    rate = Rate(clock=lambda: now[0])
    rate.sample(1000)
    now[0] = 1.0
    assert rate.sample(500) == 0
    now[0] = 2.0
    assert rate.sample(600) == 100
