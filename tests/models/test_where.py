import numpy as np
import pytest
import torch

from gfnet_agents.learners import build_learner
from gfnet_env import ArrayImages, EarlyExitGFNet, GlanceFocusNetwork
from gfnet_env.actions import PeakActions
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.features import LiveFeatures
from gfnet_env.inference import assemble
from gfnet_env.looks import Look, ViewConfig
from gfnet_env.models import WhereMap, count_multiply_adds
from gfnet_env.observations import PeakObservation
from gfnet_env.policies import HeatPolicy, load_policy, save_policy
from gfnet_env.rollout import glance, look

SIZES = torch.tensor([[120, 200], [64, 64]])


def where_map(scales=(1.0, 2.0), aspect="stretch"):
    torch.manual_seed(0)
    view = ViewConfig(size=16, aspect=aspect)
    return WhereMap(5, 4, scales, view, ViewConfig(size=32, aspect=aspect))


def network(**options):
    torch.manual_seed(0)
    options = {"where_scales": (1.0, 2.0), "glance_size": 40} | options
    return GlanceFocusNetwork.build(
        encoder="compact",
        glance_encoder="compact:widths=[4,8],strides=[2,2]",
        patch_size=16,
        num_classes=5,
        focus_steps=4,
        **{"classifier": "evidence"} | options,
    ).eval()


@pytest.fixture
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 96, 128), dtype=np.uint8)
    return ArrayImages(pixels, np.arange(6) % 5)


@pytest.mark.parametrize("aspect", ["stretch", "pad"])
def test_a_window_about_a_cell_belongs_to_that_cell(aspect):
    where, cells = where_map(aspect=aspect), (6, 8)
    numbers = torch.arange(2 * 48)
    sizes = SIZES[:1].expand(96, 2)
    looks = where.looks(numbers[None], SIZES[:1], torch.ones(1, 2, *cells))
    assert looks.scale.tolist() == [1.0] * 48 + [2.0] * 48
    looks.check(96)
    # At the edges, all neighbours are on one side.
    row, column = numbers % 48 // 8, numbers % 8
    inside = (row > 0) & (row < 5) & (column > 0) & (column < 7)
    inside &= looks.location.abs().amax(dim=1) < 1
    assert inside.sum() > 20
    found = where.cell_of(where.view.window_boxes(looks, sizes), looks.scale, sizes, cells)
    assert torch.equal(found[inside], numbers[inside])
    # At an edge a window moves inwards, to a cell that is near.
    assert bool((found // 48 == numbers // 48).all())


def test_the_peak_is_the_best_place_of_each_picture():
    where = where_map()
    rated = torch.full((2, 2, 4, 4), -20.0)
    rated[0, 1, 2, 1] = rated[1, 0, 2, 2] = rated[1, 0, 2, 1] = 3.0
    peaks = where.peaks(rated, SIZES)
    assert peaks.scale.tolist() == [2.0, 1.0]
    boxes = where.view.window_boxes(peaks, SIZES)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    # That of the second lies between two cells that are as good.
    assert centres.tolist() == [[75.0, 75.0], [40.0, 32.0]]


@pytest.mark.parametrize("aspect", ["stretch", "pad"])
def test_cells_that_can_hold_no_centre_come_last(aspect):
    where = where_map(scales=(1.0, 2.0, 50.0), aspect=aspect)
    open_cells = where(torch.zeros(2, 4, 12, 12), SIZES) > -100
    looks = where.looks(torch.arange(3 * 144).expand(2, -1), SIZES, torch.ones(2, 3, 12, 12))
    sizes = SIZES.repeat_interleave(3 * 144, dim=0)
    reached = torch.zeros(2, 3 * 144, dtype=torch.bool)
    # Wherever windows can be, their centres are in open cells; no other cell holds one.
    for rows in torch.linspace(-1, 1, 60):
        for columns in torch.linspace(-1, 1, 60):
            there = Look.at(torch.stack([rows, columns]).expand(len(looks), 2), looks.scale)
            boxes = where.view.window_boxes(there, sizes)
            numbers = where.cell_of(boxes, there.scale, sizes, (12, 12)).view(2, -1)
            reached.scatter_(1, numbers, True)
    assert torch.equal(open_cells.flatten(1), reached)
    assert open_cells[:, 2].sum() == 2
    assert not open_cells[0, 1, 0].any()


def test_what_was_looked_at_comes_last_at_its_scale_and_above():
    where = where_map(scales=(1.0, 2.0, 4.0))
    rated = torch.rand(2, 3, 4, 4)
    looks = Look.at(torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), torch.tensor([2.0, 1.0]))
    boxes = where.view.window_boxes(looks, SIZES)
    left = where.inhibited(rated, boxes, looks, SIZES) > -1
    assert left[0, 0].all(), "a finer scale may look again"
    assert torch.equal(left[0, 1], left[0, 2])
    assert not left[0, 1, 0, 0]
    assert left[0, 1, 3, 3]
    assert not left[1, :, 3, 3].any()
    assert left[1].sum() == 3 * 15
    # A window that is far smaller than a cell still takes it.
    large = torch.tensor([[4000, 4000], [4000, 4000]])
    boxes = where.view.window_boxes(looks, large)
    left = where.inhibited(rated, boxes, looks, large) > -1
    assert not left[1, 0, 3, 3]
    assert left[1].sum() == 3 * 15


def test_a_window_that_would_show_much_the_same_comes_last_too():
    where = where_map(scales=(1.0,))
    side = where.view.size
    sizes = torch.tensor([[10 * side, 10 * side]])
    looks = Look.at(torch.zeros(1, 2))
    boxes = where.view.window_boxes(looks, sizes)
    # Cells are a tenth of a window: their middles lie 0.05, 0.15, … of its side from its own.
    left = where.inhibited(torch.zeros(1, 1, 100, 100), boxes, looks, sizes)[0, 0] > -1
    along, across = left[50], left.diagonal()
    assert along[:42].all()
    assert not along[43:57].any()
    assert along[58:].all()
    assert across[:44].all()
    assert not across[45:55].any()


def test_the_policy_follows_the_map_and_never_looks_twice(images, tmp_path):
    model = network()
    record = evaluate_policy(model, HeatPolicy(), images)
    state = glance(LiveFeatures(model, images), np.arange(6))
    first = model.where.peaks(state.heat, state.size)
    assert torch.equal(torch.as_tensor(record.locations[:, 0]), first.location)
    for row in range(6):
        places = {
            (*map(float, place), float(scale))
            for place, scale in zip(record.locations[row], record.scales[row], strict=True)
        }
        assert len(places) == 4
    save_policy(HeatPolicy(), tmp_path)
    again = evaluate_policy(model, load_policy(tmp_path), images)
    assert np.array_equal(again.locations, record.locations)
    bare = network(where_scales=())
    with pytest.raises(ValueError, match="the network has no where-map; train one with"):
        evaluate_policy(bare, HeatPolicy(), images)


def test_a_glance_may_be_finer_and_by_another_encoder(images):
    model = network()
    state = glance(LiveFeatures(model, images), np.arange(6))
    assert state.glance_map.shape == (6, 8, 10, 10)
    assert state.heat.shape == (6, 2, 10, 10)
    assert state.seen.shape == (6, 10, 10)
    assert not state.feature_map.any()
    assert state.vector.shape == (6, model.vector_size)
    after = look(LiveFeatures(model, images), np.arange(6), Look.at(torch.zeros(6, 2)), state)
    assert after.feature_map.shape == state.feature_map.shape
    assert after.seen.sum() > 0
    costs = model.multiply_adds()
    assert costs[0] < costs[1]
    head = count_multiply_adds(model.where, state.glance_map[:1], state.size[:1])
    assert head == 2 * 8 * 100
    small = LiveFeatures(model, ArrayImages(images[[0]][:, :, :30, :30], np.zeros(1, dtype=int)))
    with pytest.raises(ValueError, match="smaller than the patch of 40×40"):
        small.overview(np.zeros(1, dtype=np.int64))


@pytest.mark.parametrize("classifier", ["evidence", "attention"])
def test_an_episode_may_be_longer_than_in_training(images, tmp_path, classifier):
    model = network(classifier=classifier)
    short = evaluate_policy(model, HeatPolicy(), images)
    model.set_focus_steps(9)
    gfnet = assemble(model, HeatPolicy(), images)
    gfnet.save(tmp_path)
    long = evaluate_policy(EarlyExitGFNet.load(tmp_path).model, HeatPolicy(), images)
    assert np.array_equal(long.locations[:, :4], short.locations)
    assert np.array_equal(long.confidence[:, :5], short.confidence)
    assert len(gfnet.multiply_adds) == len(gfnet.thresholds) == 10
    with pytest.raises(ValueError, match="focus_steps must be at least 1, not 0"):
        model.set_focus_steps(0)
    with pytest.raises(ValueError, match="'recurrent' was trained with 4 looks and takes no other"):
        network(classifier="recurrent").set_focus_steps(5)


def test_a_network_with_a_map_is_saved_and_loaded(images, tmp_path):
    model = network()
    model.save(tmp_path)
    loaded = GlanceFocusNetwork.load(tmp_path)
    assert loaded.config == model.config
    indices = np.arange(6)
    assert torch.equal(
        glance(LiveFeatures(loaded, images), indices).heat,
        glance(LiveFeatures(model, images), indices).heat,
    )


def test_a_policy_that_corrects_the_map_begins_as_heat(images):
    model = network()
    env = GlanceFocusVectorEnv(
        6, model=model, images=images, actions="peak:reach=0.5", observation="peak"
    )
    record = evaluate_policy(model, HeatPolicy(), images)
    observations, _ = env.reset(options={"indices": np.arange(6)})
    for step in range(4):
        np.testing.assert_array_equal(observations["peak"], record.locations[:, step])
        # The map's best cell is in the middle of what is shown around it.
        middle = observations["around"][:, :2, 2, 2].max(axis=1)
        np.testing.assert_allclose(middle, observations["heat"].max(axis=1))
        np.testing.assert_allclose(observations["scale"][:, 0], 1 / record.scales[:, step])
        observations, *_ = env.step(np.zeros((6, 2), dtype=np.float32))
    aside = PeakActions(patch_size=16, reach=0.5)
    state = glance(LiveFeatures(model, images), np.arange(6))
    moved = aside.looks(torch.tensor([[0.5, -1.0]]).expand(6, 2), state)
    boxes, before = (
        model.view.window_boxes(each, state.size)
        for each in (moved, aside.looks(torch.zeros(6, 2), state))
    )
    side = state.peak_scale * 16
    wanted = (before[:, :2] + torch.stack([0.25 * side, -0.5 * side], dim=1)).round()
    room = state.size - side[:, None]
    assert ((boxes[:, :2] - wanted.clamp(min=0).minimum(room)).abs() <= 1).all()


def test_learners_take_actions_about_the_peak(images):
    env = GlanceFocusVectorEnv(
        6,
        model=network(),
        images=images,
        actions="peak+stop",
        observation="peak:side=3",
        autoreset_mode="SameStep",
    )
    learner = build_learner("ppo:n_steps=8,batch_size=24", env, seed=0, device="cpu", timesteps=96)
    learner.learn(lambda: None)
    gfnet = assemble(env.model, learner.policy(), images)
    assert len(gfnet.classify(images)) == 6


def test_what_needs_a_map_says_so(images):
    bare = network(where_scales=())
    with pytest.raises(ValueError, match="the network has no where-map"):
        GlanceFocusVectorEnv(6, model=bare, images=images, observation="peak")
    env = GlanceFocusVectorEnv(6, model=bare, images=images, actions="peak", observation="plain")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="the network has no where-map"):
        env.step(np.zeros((6, 2), dtype=np.float32))
    with pytest.raises(ValueError, match="take the observation 'peak'"):
        GlanceFocusVectorEnv(6, model=network(), images=images)
    for wrong, message in ((2, "side must be odd"), (-1, "side must be at least 1")):
        with pytest.raises(ValueError, match=message):
            PeakObservation(3, side=wrong)
    with pytest.raises(ValueError, match="reach must be "):
        PeakActions(16, reach=0)


@pytest.mark.parametrize("scales", [(1.0, 1.0), (1.0, 1e30)])
def test_scales_that_no_map_can_have_are_refused(scales):
    with pytest.raises(ValueError, match="where_scales must be different and at most 1e"):
        network(where_scales=scales)
