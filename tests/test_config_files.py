from collections.abc import Sequence

import pytest
from jsonargparse import Namespace

from metalit.config_files import check_config, check_configs, refuse_nothing


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "holds nothing but sections such as model, data and trainer are needed"),
        (b"hello", "holds one value but sections"),
        (b"- model\n- data\n", "holds a list but sections"),
        (b"a: [1\n", r"no YAML \(.*, line 2, column 1\): correct .*mine.yaml"),
        (b"a: 1\n---\nb: 2\n", "expected a single document in the stream but found another"),
        (b"a: *b\n", "found undefined alias 'b', line 1, column 4"),
        (b"a: \xff\n", r"is no text \(byte 3 cannot be read\): save it as UTF-8"),
        ("a: 1\n".encode("utf-16"), "is no text"),
        (b"a: &b {c: *b}\n", "line 1 of .* holds itself by an alias"),
        (
            b"a: 1\nb: 2\na: 3\n",
            "a stands twice in .*, in lines 1 and 3, and the first would be lost",
        ),
        (b"a: {b: 1, b: 2}\n", "b stands twice"),
        (b"trainer: 3\n", "trainer is '3' in .* but settings are needed"),
        (b"checkpoint:\n", "checkpoint is '' in .* but settings are needed"),
        (
            b"data: {class_path: A, init_args: {tasks: {class_path: B, init_ars: {}}}}",
            "data.tasks.init_ars is no option beside class_path .*: did you mean init_args",
        ),
    ],
)
def test_a_file_that_the_parser_would_misread_is_refused(text, said, tmp_path):
    (tmp_path / "mine.yaml").write_bytes(text)
    with pytest.raises(ValueError, match=said):
        check_config(tmp_path / "mine.yaml")


def test_good_files_pass(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(
        b"\xef\xbb\xbfmodel: A\na: &x {b: 1}\nb: {<<: *x, <<: *x, c: 2}\nc: [*x, *x]\ntrainer: {}\n"
    )
    check_configs(["fit", "--config", str(tmp_path / "mine.yaml"), "--config=absent.yaml"])
    check_configs(["fit", "--config"])
    check_configs(["fit", "--config", "x" * 5000])


def test_each_file_that_is_named_is_checked(tmp_path):
    (tmp_path / "bad.yaml").write_text("hello")
    for option in (["--config", str(tmp_path / "bad.yaml")], [f"-c={tmp_path / 'bad.yaml'}"]):
        with pytest.raises(ValueError, match="holds one value"):
            check_configs(["fit", *option])
    with pytest.raises(ValueError, match="is a folder: give a YAML file"):
        check_configs(["fit", "--config", str(tmp_path)])


class Thing:
    def __init__(
        self,
        size: int = 1,
        name: str | None = None,
        most: int | None = 3,
        parts: Sequence["Thing"] = (),
        late: int = None,  # noqa: RUF013 - as torch has them
    ) -> None:
        pass


def _thing(**arguments):
    return Namespace(class_path=f"{__name__}.Thing", init_args=Namespace(**arguments))


def test_nothing_where_a_value_is_needed_is_refused():
    with pytest.raises(ValueError, match=r"model\.size is None but int is needed: give one, or"):
        refuse_nothing(Namespace(model=_thing(size=None)), {})
    nested = Namespace(model=_thing(parts=[_thing(), _thing(size=None)]))
    with pytest.raises(ValueError, match=r"model\.parts\.1\.size is None"):
        refuse_nothing(nested, {})
    nested = Namespace(model=_thing(parts={"a": _thing(size=None)}))
    with pytest.raises(ValueError, match=r"model\.parts\.a\.size is None"):
        refuse_nothing(nested, {})
    with pytest.raises(ValueError, match=r"trainer\.size is None"):
        refuse_nothing(Namespace(trainer=Namespace(size=None)), {"trainer": Thing})


class Unreadable:
    def __init__(self, size: "Absent" = 1) -> None:  # noqa: F821 - which some have
        pass


def test_nothing_where_it_may_be_passes():
    unreadable = Namespace(class_path=f"{__name__}.Unreadable", init_args=Namespace(size=None))
    refuse_nothing(Namespace(model=unreadable), {})
    config = Namespace(model=_thing(size=2, name=None, most=None, late=None), seed=None, data=None)
    refuse_nothing(config, {"trainer": Thing})
