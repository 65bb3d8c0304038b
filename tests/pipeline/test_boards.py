"""A run's board: its events are told step by step, and read in as few looks as there can be."""

from charkha.data.blobs.memory import MemoryBlobs
from charkha.events import Noticed
from charkha.pipeline.boards import Board


class Counted(MemoryBlobs):
    """Counts the looks into the notes: each is a request, where they lie in a bucket."""

    def __init__(self):
        super().__init__()
        self.looks = 0

    def notes(self, name):
        self.looks += 1
        return super().notes(name)


def test_all_of_a_runs_events_are_read_in_one_look_and_a_steps_own_alone():
    blobs = Counted()
    board, other = Board(blobs, "night", "houses"), Board(blobs, "day", "houses")
    for i in range(50):
        board.post(f"step{i}", Noticed("here", f"step{i}"))
    other.post("step1", Noticed("not ours", "step1"))
    told = board.events()
    assert blobs.looks == 1
    assert [line.event.step for line in told] == [f"step{i}" for i in range(50)]
    assert [line.event.text for line in board.events(["step1"])] == ["here"]
