"""What becomes a knob of a command, and where its placeholder goes."""

from pathlib import Path
from typing import Any

import pytest

from hotlap.inspect_script.settings import Found, find_settings

ROOT = Path(__file__).parents[2] / "examples" / "own_script"
DOCKER = (
    "docker build -t welt . && docker run -it --rm --gpus all --ipc=host --ulimit memlock=-1 "
    '-v "$(pwd)/welt:/app/welt" -v "$(pwd)/welt_training:/app/welt_training" '
    "-v ~/.netrc:/root/.netrc:ro -e WANDB_PROJECT=string-repetition "
    "-e WANDB_NAME=benchmark-run -e CONFIG=welt_training/experiments/easy-tasks/benchmark-run.yaml welt"
)


def values(found: Found) -> dict[str, Any]:
    return {knob.name: knob.value for knob in found.knobs}


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_flags_that_are_given_and_flags_that_are_not() -> None:
    found = find_settings("python train.py --config config.yaml --lr 0.5 > log.txt", ROOT / "argparse_yaml")
    assert found.run == (
        "python train.py --config config.yaml --lr {lr} --batch-size {batch_size} --seed {seed} > log.txt"
    )
    assert found.files == {"config.yaml": {"optimizer.momentum": "momentum", "schedule.max_steps": "max_steps"}}
    assert values(found) == {"lr": 0.5, "momentum": 0.0, "max_steps": 400, "batch_size": 32, "seed": 0}
    assert found.added == ["--batch-size", "--seed"] and found.has_seed
    assert ("config.yaml: schedule.eval_steps", 20) in found.others


def test_a_file_of_settings_that_an_option_names_by_default() -> None:
    found = find_settings("python train.py", ROOT / "argparse_yaml")
    assert found.run.startswith("python train.py --config config.yaml --lr {lr} ")
    assert "momentum" in values(found)


def test_constants_of_a_script() -> None:
    found = find_settings("python train.py", ROOT / "constants")
    assert found.run == "python train.py"
    names = ["learning_rate", "batch_size", "max_iters", "beta1", "seed"]
    assert found.constants == {"train.py": {name: name for name in names}}
    assert values(found)["batch_size"] == 32, "8 * 4"


def test_variables_of_a_shell_script() -> None:
    found = find_settings("sh train.sh", ROOT / "shell_loop")
    assert found.constants == {
        "train.sh": {"LR": "LR", "MOMENTUM": "MOMENTUM", "MAX_STEPS": "MAX_STEPS", "SEED": "seed"}
    }


def test_a_trainer_script_with_a_file() -> None:
    found = find_settings("python train.py config.yaml", ROOT / "trainer")
    assert found.is_trainer
    assert found.run == "python train.py config.yaml", "a file and flags do not mix there"
    assert {"learning_rate", "weight_decay", "lr_scheduler_type", "n_embd", "seed"} <= values(found).keys()
    assert "eval_steps" not in values(found) and "output_dir" not in values(found)


def test_a_trainer_script_with_flags_gets_the_main_ones() -> None:
    found = find_settings("python train.py --output_dir out --learning_rate=1e-3 --bf16", ROOT / "trainer")
    assert found.run.startswith(
        "python train.py --output_dir out --learning_rate={learning_rate} {bf16?--bf16} --n_embd"
    )
    assert "--weight_decay {weight_decay}" in found.run
    assert values(found)["bf16"] is True and values(found)["optim"] == "adamw_torch_fused"


def test_the_keys_of_a_file_inside_a_container(tmp_path: Path) -> None:
    name = "welt_training/experiments/easy-tasks/benchmark-run.yaml"
    write(tmp_path, name, "learning_rate: 3e-4\nper_device_train_batch_size: 8\nseed: 1\neval_steps: 5\n")
    found = find_settings(DOCKER, tmp_path)
    assert found.run == DOCKER
    keys = ("learning_rate", "per_device_train_batch_size", "seed")
    assert found.files == {name: {key: key for key in keys}}
    assert found.is_trainer


def test_variables_before_a_command_and_in_a_script(tmp_path: Path) -> None:
    write(tmp_path, "train.py", 'import os\nwd = float(os.environ.get("WEIGHT_DECAY", "0.1"))\n')
    found = find_settings("LR=0.1 DEBUG=1 python train.py", tmp_path)
    assert found.run == "LR={LR} DEBUG=1 python train.py"
    assert found.env == {"WEIGHT_DECAY": "{WEIGHT_DECAY}"}
    assert values(found) == {"LR": 0.1, "WEIGHT_DECAY": 0.1}


def test_overrides_as_hydra_has_them(tmp_path: Path) -> None:
    write(tmp_path, "train.py", "")
    found = find_settings("python train.py optimizer.lr=0.1 model.depth=3 data.path=x", tmp_path)
    assert found.run == "python train.py optimizer.lr={lr} model.depth={depth} data.path=x"


def test_arguments_of_a_class_inside_a_function(tmp_path: Path) -> None:
    write(
        tmp_path, "train.py", "def main():\n    args = TrainingArguments(output_dir='o', learning_rate=1e-4, seed=3)\n"
    )
    found = find_settings("accelerate launch train.py", tmp_path)
    assert found.constants == {
        "train.py": {"TrainingArguments.learning_rate": "learning_rate", "TrainingArguments.seed": "seed"}
    }


def test_numbers_where_no_name_says_what_it_is(tmp_path: Path) -> None:
    write(tmp_path, "train.py", "wobble = 3.0\nlog_every = 5\nname = 'x'\n")
    assert values(find_settings("python train.py", tmp_path)) == {"wobble": 3.0}


def test_equal_names_and_braces(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "encoder: {lr: 1.0}\ndecoder: {lr: 2.0}\n")
    found = find_settings("awk '{print}' a.yaml ${HOME}", tmp_path)
    assert found.run == "awk '{{print}}' a.yaml ${HOME}"
    assert found.files == {"a.yaml": {"encoder.lr": "lr", "decoder.lr": "decoder_lr"}}


@pytest.mark.parametrize("command", ["true", "python", "python absent.py", "docker run", "((", "'"])
def test_commands_that_say_nothing(command: str, tmp_path: Path) -> None:
    assert find_settings(command, tmp_path).knobs == []


def test_a_launcher_keeps_its_own_flags(tmp_path: Path) -> None:
    write(tmp_path, "sub/train.py", "")
    found = find_settings("cd sub && OMP_NUM_THREADS=2 torchrun --nproc_per_node 2 train.py --widget 3.0", tmp_path)
    assert found.run == "cd sub && OMP_NUM_THREADS=2 torchrun --nproc_per_node 2 train.py --widget {widget}"


def test_options_of_a_container_are_no_knobs(tmp_path: Path) -> None:
    found = find_settings("docker run --cpus 4 --ulimit memlock=9 -e LR=0.1 img --steps 5 --widget 3", tmp_path)
    assert found.run == "docker run --cpus 4 --ulimit memlock=9 -e LR={LR} img --steps {steps} --widget 3"


def test_config_scripts_of_nanogpt_come_before_flags(tmp_path: Path) -> None:
    write(tmp_path, "train.py", "learning_rate = 6e-4\nbeta2 = 0.95\nexec(open('configurator.py').read())\n")
    write(tmp_path, "config/small.py", "learning_rate = 1e-3\n")
    found = find_settings("python train.py config/small.py", tmp_path)
    assert found.run == "python train.py config/small.py --learning_rate={learning_rate} --beta2={beta2}"
    assert values(found) == {"learning_rate": 1e-3, "beta2": 0.95}


def test_a_file_that_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "lr: {{ rate }}: [\n")
    assert find_settings("train a.yaml", tmp_path).files == {}


def test_no_flag_is_added_where_the_words_do_not_reach_the_script(tmp_path: Path) -> None:
    write(tmp_path, "train.py", "p.add_argument('--lr', default=0.1)\np.add_argument('--batch-size', default=8)\n")
    write(tmp_path, "run.sh", "set -e\nexport STEPS=100\npython train.py --lr 0.3 --fp16=off\n")
    found = find_settings("bash run.sh", tmp_path)
    assert found.run == "bash run.sh" and found.added == []
    assert found.constants == {"run.sh": {"STEPS": "STEPS", "--lr": "lr"}}
    assert values(found) == {"STEPS": 100, "lr": 0.3}


@pytest.mark.parametrize(
    ("line", "outside"),
    [
        ("open(os.environ['CONFIG'])", "conf/a.yaml"),
        ("open(os.environ.get('CONFIG', 'conf/a.yaml'))", None),
        ("open(os.getenv('CONFIG', 'conf/b.yaml'))", "conf/a.yaml"),
    ],
)
def test_a_file_that_a_variable_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, outside: str | None
) -> None:
    write(tmp_path, "conf/a.yaml", "lr: 0.1\n")
    write(tmp_path, "conf/b.yaml", "batch_size: 8\n")
    write(tmp_path, "train.py", f"import os\n{line}\n")
    monkeypatch.delenv("CONFIG", raising=False)
    if outside:
        monkeypatch.setenv("CONFIG", outside)
    found = find_settings("python train.py", tmp_path)
    assert found.env == {"CONFIG": "conf/a.yaml"} and found.files == {"conf/a.yaml": {"lr": "lr"}}
    given = find_settings("CONFIG=conf/b.yaml python train.py", tmp_path)
    assert given.env == {} and given.files == {"conf/b.yaml": {"batch_size": "batch_size"}}


def test_variables_that_are_set_outside_have_that_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "train.py", "import os\nlr = float(os.environ.get('LR', '0.1'))\nos.environ['HF_TOKEN']\n")
    monkeypatch.setenv("LR", "0.5")
    monkeypatch.setenv("HF_TOKEN", "hf_planted0000secret")
    found = find_settings("python train.py", tmp_path)
    assert values(found) == {"LR": 0.5} and "planted" not in str(found)


def test_secrets_of_a_file_are_not_told(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "lr: 0.1\nhub_token: hf_planted0000secret\nhub_user: me\n")
    found = find_settings("train a.yaml", tmp_path)
    assert "planted" not in str(found.others) and ("a.yaml: hub_user", "me") in found.others


def test_without_flags_that_the_command_does_not_name(tmp_path: Path) -> None:
    write(tmp_path, "train.py", "p.add_argument('--lr', default=0.1)\np.add_argument('--batch-size', default=8)\n")
    found = find_settings("python train.py --lr 1.0", tmp_path, add_flags=False)
    assert found.run == "python train.py --lr {lr}"


def test_settings_with_other_defaults_in_trl_are_not_added(tmp_path: Path) -> None:
    found = find_settings("python train.py --output_dir out --per_device_train_batch_size 4", ROOT / "trl_sft")
    assert found.is_trainer
    assert not {"learning_rate", "bf16"} & values(found).keys() and "weight_decay" in values(found)
    with_file = find_settings("python train.py --config config.yaml", ROOT / "trl_sft")
    assert with_file.run == "python train.py --config config.yaml --n_embd {n_embd}"
    assert values(with_file)["learning_rate"] == 3e-4 and "max_length" not in values(with_file)
