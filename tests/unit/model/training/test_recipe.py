"""Recipes: those that are shipped, and those that are refused."""

from pathlib import Path

import pytest

from model.errors import DatasetError
from model.training.recipe import SHIPPED_RECIPES, Budget, read_recipe

WHOLE = """
name = "mine"
description = "a test"
data = "none"
licence = "MIT"
site = "head-and-neck"
network = { kind = "diffdp", widths = [8, 8, 8, 8, 8] }
sampler = { sampler = "ddim", steps = 5 }
stages = { pretrain = { minutes = 1 }, diffusion = { batches = 7 } }
"""


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str) -> str:
        path = tmp_path / "recipe.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


@pytest.mark.parametrize("path", sorted(SHIPPED_RECIPES.rglob("*.toml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_read_by_name_and_by_path(path):
    name = path.relative_to(SHIPPED_RECIPES).with_suffix("").as_posix()
    assert read_recipe(name) == read_recipe(str(path))


def test_a_recipe_is_what_it_says(written):
    recipe = read_recipe(written(WHOLE))
    assert recipe.stages["diffusion"].batches == 7
    assert str(recipe.stages["pretrain"]) == "1 min"
    assert recipe.training.batch == 16
    assert recipe.schedule.steps == 1000
    assert recipe.conditioner.site.name == "head and neck"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "mine"', 'name = "My model"', "name"),
        ('licence = "MIT"\n', "", "licence: Field required"),
        ('site = "head-and-neck"', 'site = "head"', "no site 'head', only head-and-neck, rectum"),
        ("pretrain = { minutes = 1 }, ", "", "has the stages pretrain, diffusion"),
        ("minutes = 1", "minutes = 1, batches = 3", "either minutes or batches"),
        ("minutes = 1", "hours = 1", "hours"),
        ('"ddim", steps = 5', '"regression"', "cannot sample by regression"),
        ('"diffdp"', '"resnet"', "network.kind"),
        ("[8, 8, 8, 8, 8]", "[8]", "network.widths"),
        ("sampler = {", "training = { depth = 8 }\nsampler = {", "volumetric"),
        ("sampler = {", "training = { bacth = 8 }\nsampler = {", "training.bacth"),
        ("sampler = {", "sampler = = {", "is not TOML"),
    ],
)
def test_mistakes_are_told(written, old, new, told):
    assert old in WHOLE
    with pytest.raises(DatasetError, match=told.replace("(", r"\(")):
        read_recipe(written(WHOLE.replace(old, new, 1)))


def test_a_recipe_that_is_not_there_names_those_that_are():
    with pytest.raises(DatasetError, match=r"there is no recipe absent; those that are shipped: .*hn-openkbp"):
        read_recipe("absent")


@pytest.mark.parametrize(
    ("budget", "elapsed_s", "batches", "spent"),
    [
        (Budget(minutes=2), 30, 999, 0.25),
        (Budget(batches=8), 999, 4, 0.5),
        (Budget(batches=8), 0, 8, 1.0),
        (Budget(minutes=0), 0, 0, 1.0),
        (Budget(batches=0), 0, 0, 1.0),
    ],
)
def test_a_budget_is_spent_by_time_or_by_batches(budget, elapsed_s, batches, spent):
    assert budget.spent(elapsed_s, batches) == spent


def test_minutes_in_all_are_divided_as_in_the_recipe(written):
    text = WHOLE.replace("minutes = 1 }", "minutes = 15 }").replace("batches = 7", "minutes = 45")
    recipe = read_recipe(written(text)).within(12)
    assert {stage: budget.minutes for stage, budget in recipe.stages.items()} == {"pretrain": 3, "diffusion": 9}


def test_batches_are_not_divided_by_minutes(written):
    with pytest.raises(DatasetError, match="recipe mine is not in minutes"):
        read_recipe(written(WHOLE)).within(12)
