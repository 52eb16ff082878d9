from __future__ import annotations

from training.translation.comparison import COMPARED, Budget, Compared, page_of

BUDGET = Budget(translator_steps=300, crop_px=64, segmenter_steps=120, images=150, seed=0)


def figures(**changed: Compared) -> dict[str, Compared]:
    return {row.key: Compared(180.0, 0.10, 0.08, 0.12, 0.5) for row in COMPARED} | changed


def test_rows_without_figures_say_so_and_nothing_is_concluded() -> None:
    page = page_of({"day": Compared(190.0, 0.123, 0.1, 0.15, 0.567)}, BUDGET, "here")
    assert page.count("| not yet run | | |") == len(COMPARED) - 1
    assert "| day images as they are | 190 | 12.3 (10.0–15.0) | 56.7 |" in page
    assert "there is nothing to conclude" in page


def test_conclusions_name_the_nearest_the_best_and_what_cannot_be_told_apart() -> None:
    page = page_of(figures(cyclegan=Compared(170.0, 0.2, 0.15, 0.25, 0.6)), BUDGET, "here")
    assert "Nearest to real night by FID: CycleGAN. Nearer than the day images themselves: CycleGAN." in page
    assert "Highest night mIoU: CycleGAN." in page
    assert "above that of the day images: CycleGAN; below it: none. The others" in page
    overlapping = page_of(figures(cyclegan=Compared(170.0, 0.2, 0.11, 0.25, 0.6)), BUDGET, "here")
    assert "above that of the day images: none" in overlapping
    worse = page_of(figures(unit=Compared(390.0, 0.04, 0.03, 0.05, 0.4)), BUDGET, "here")
    assert "below it: UNIT. The others" in worse
