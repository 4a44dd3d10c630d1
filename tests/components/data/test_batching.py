import numpy as np
import pytest

from components.data.batching import (
    collate,
    epoch_steps,
    evaluation_batches,
    padding_share,
    split_step,
    stratified_subset,
)

LENGTHS = np.minimum(np.random.default_rng(0).lognormal(6.0, 0.9, 515).astype(np.int32) + 3, 4096)
CUTS = [(1, 8, None), (1, 4, None), (2, 8, None), (4, 8, 2048), (3, 32, 4096), (7, 2, None)]


@pytest.mark.parametrize("train_batch_size", [1, 8, 32, 1000])
def test_every_document_once_per_epoch_in_steps_of_constant_size(train_batch_size):
    steps = epoch_steps(LENGTHS, train_batch_size=train_batch_size, seed=1, epoch=0)
    assert np.array_equal(np.sort(np.concatenate(steps)), np.arange(len(LENGTHS)))
    assert len(steps) == -(-len(LENGTHS) // train_batch_size)
    assert sum(len(step) != train_batch_size for step in steps) <= 1


def test_steps_are_a_pure_function_of_seed_and_epoch():
    def flat(seed, epoch):
        return np.concatenate(
            epoch_steps(LENGTHS, train_batch_size=8, seed=seed, epoch=epoch)
        ).tolist()

    assert flat(1, 3) == flat(1, 3)
    assert len({tuple(flat(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


def test_a_document_gets_new_neighbours_and_a_random_place_every_epoch():
    places, neighbours = [], set()
    for epoch in range(60):
        steps = epoch_steps(LENGTHS, train_batch_size=32, seed=0, epoch=epoch)
        place = next(place for place, step in enumerate(steps) if 7 in step)
        places.append(place / (len(steps) - 1))
        neighbours |= set(steps[place].tolist())
    assert len(neighbours) > 2 * 32
    assert abs(np.mean(places) - 0.5) < 0.15  # four standard errors of a uniform place


def test_the_step_with_the_remainder_is_not_always_of_the_same_length():
    remainders = [
        np.median(LENGTHS[step])
        for epoch in range(20)
        for step in epoch_steps(LENGTHS, train_batch_size=32, seed=0, epoch=epoch)
        if len(step) < 32
    ]
    assert min(remainders) < np.median(LENGTHS) < max(remainders)


def test_documents_of_equal_length_are_shuffled():
    first, second = (
        np.concatenate(epoch_steps(np.full(64, 1024), train_batch_size=8, seed=0, epoch=epoch))
        for epoch in (0, 1)
    )
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize(("world_size", "micro_batch_size", "tokens_per_batch"), CUTS)
def test_a_cut_step_is_the_step_whatever_the_world_size(
    world_size, micro_batch_size, tokens_per_batch
):
    for step in epoch_steps(LENGTHS, train_batch_size=32, seed=0, epoch=0):
        ranks = split_step(
            step,
            LENGTHS,
            world_size=world_size,
            micro_batch_size=micro_batch_size,
            tokens_per_batch=tokens_per_batch,
        )
        assert len(ranks) == world_size
        assert len({len(batches) for batches in ranks}) == 1
        batches = [batch for batches in ranks for batch in batches]
        assert sorted(np.concatenate(batches)) == sorted(step)
        for batch in batches:
            assert len(batch) <= micro_batch_size
            if tokens_per_batch is not None and len(batch) > 1:
                assert len(batch) * LENGTHS[batch].max() <= tokens_per_batch


def test_ranks_without_documents_get_empty_batches():
    ranks = split_step([5, 6], LENGTHS, world_size=4, micro_batch_size=8)
    assert sorted(len(batch) for batches in ranks for batch in batches) == [0, 0, 1, 1]
    assert [len(batches) for batches in ranks] == [1, 1, 1, 1]


def test_ranks_get_about_the_same_work():
    for step in epoch_steps(LENGTHS, train_batch_size=64, seed=0, epoch=0):
        ranks = split_step(step, LENGTHS, world_size=2, micro_batch_size=4)
        work = [sum(len(batch) * LENGTHS[batch].max() for batch in batches) for batches in ranks]
        assert max(work) - min(work) <= 4 * LENGTHS[step].max()


@pytest.mark.parametrize(
    ("micro_batch_size", "tokens_per_batch"), [(8, None), (4, None), (8, 8192), (32, 8192)]
)
def test_padding_stays_under_three_percent(micro_batch_size, tokens_per_batch):
    steps = epoch_steps(LENGTHS, train_batch_size=32, seed=0, epoch=0)
    cut = [
        split_step(
            step,
            LENGTHS,
            world_size=1,
            micro_batch_size=micro_batch_size,
            tokens_per_batch=tokens_per_batch,
        )[0]
        for step in steps
    ]
    assert padding_share([batch for batches in cut for batch in batches], LENGTHS) < 0.03


@pytest.mark.parametrize(("world_size", "micro_batch_size", "tokens_per_batch"), CUTS)
def test_evaluation_sees_every_document_once_with_equally_many_batches_per_rank(
    world_size, micro_batch_size, tokens_per_batch
):
    ranks = [
        evaluation_batches(
            LENGTHS,
            world_size=world_size,
            rank=rank,
            micro_batch_size=micro_batch_size,
            tokens_per_batch=tokens_per_batch,
        )
        for rank in range(world_size)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    assert sorted(np.concatenate([batch for batches in ranks for batch in batches])) == list(
        range(len(LENGTHS))
    )


def test_a_subset_is_fixed_sorted_and_in_proportion():
    label_ids = np.repeat([0, 1, 2], [70, 28, 2])
    subset = stratified_subset(label_ids, 20, seed=3)
    assert subset.tolist() == sorted(set(stratified_subset(label_ids, 20, seed=3).tolist()))
    assert np.bincount(label_ids[subset]).tolist() == [14, 5, 1]
    assert stratified_subset(label_ids, 200, seed=3).tolist() == list(range(100))
    assert [len(stratified_subset(label_ids, count, seed=0)) for count in (1, 2, 3, 50)] == [
        1,
        2,
        3,
        50,
    ]


def test_collate_pads_to_the_longest_only():
    class Split:
        is_chunked = False

        def column(self, name):
            return {"label_id": np.array([1, 0], dtype=np.int64)}[name]

        def chunks(self, index):
            return [np.arange(1, [4, 3][index], dtype=np.int32)]

    right = collate(Split(), [1, 0], pad_token_id=9)
    assert right["input_ids"].tolist() == [[1, 2, 9], [1, 2, 3]]
    assert right["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert right["labels"].tolist() == [0, 1]
    left = collate(Split(), np.array([1]), pad_token_id=9, multiple_of=4, padding_side="left")
    assert left["input_ids"].tolist() == [[9, 9, 1, 2]]
    assert left["attention_mask"].tolist() == [[0, 0, 1, 1]]
