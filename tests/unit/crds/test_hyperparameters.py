from __future__ import annotations

import string
from contextlib import suppress

import pytest
from aisandbox_crds.errors import InvalidRun
from aisandbox_crds.hyperparameter_table import REFUSED, parameters_of
from aisandbox_crds.hyperparameters import (
    ActionNoise,
    ClassName,
    LinearSchedule,
    Normalize,
    parse_hyperparameters,
)
from aisandbox_crds.spec import Algorithm
from hypothesis import given, settings
from hypothesis import strategies as st

RECURRENT_PPO = Algorithm.RECURRENTPPO
PPO, A2C, DQN, SAC, TQC, CROSSQ = (
    Algorithm.PPO, Algorithm.A2C, Algorithm.DQN, Algorithm.SAC, Algorithm.TQC, Algorithm.CROSSQ
)  # fmt: skip


def refusals(algorithm: Algorithm, **mapping: str) -> dict[str, str]:
    with pytest.raises(InvalidRun) as caught:
        parse_hyperparameters(algorithm, mapping)
    return {error.field: error.rule for error in caught.value.errors}


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        (
            PPO,
            {
                "learning_rate": 3e-4,
                "n_steps": 2048,
                "batch_size": 64,
                "n_epochs": 10,
                "gamma": 0.99,
                "clip_range": 0.2,
            },
        ),
        (A2C, {"learning_rate": 7e-4, "n_steps": 5, "gamma": 0.99, "vf_coef": 0.5}),
        (DQN, {"learning_rate": 1e-4, "buffer_size": 50_000, "batch_size": 32, "gamma": 0.99}),
        (SAC, {}),
    ],
)
def test_unset_variables_give_the_defaults_of_the_design(algorithm: Algorithm, expected: dict[str, object]) -> None:
    parsed = parse_hyperparameters(algorithm, {})
    assert parsed.keywords == expected
    assert (parsed.policy, parsed.normalize, parsed.n_envs, parsed.frame_stack) == (None, None, None, None)


def test_tags_of_zoos_files_are_read() -> None:
    said = {"learning_rate": "!!float 6.3e-4", "n_steps": "!!int 32", "normalize": "!!bool true"}
    found = parse_hyperparameters(Algorithm.PPO, said)
    assert (found.keywords["learning_rate"], found.keywords["n_steps"], found.normalize is not None) == (
        6.3e-4,
        32,
        True,
    )


def test_a_value_overrides_the_default_and_leaves_the_others() -> None:
    keywords = parse_hyperparameters(PPO, {"gamma": " 0.5 ", "gae_lambda": "1"}).keywords
    assert (keywords["gamma"], keywords["gae_lambda"], keywords["n_steps"]) == (0.5, 1.0, 2048)


@pytest.mark.parametrize("text", ["1e6", "1000000", "1000000.0", "+1E6"])
def test_a_whole_number_may_be_written_as_zoo_does(text: str) -> None:
    value = parse_hyperparameters(DQN, {"buffer_size": text}).keywords["buffer_size"]
    assert value == 1_000_000
    assert type(value) is int


@pytest.mark.parametrize(
    "text",
    [
        "nan",
        "inf",
        "-inf",
        "1e999",
        "True",
        "",
        " ",
        "1_000",
        "0x10",
        "2.5",
        "0",
        "-1",
        "1e30",
        "٣",
        "9" * 3000,
        "None",
    ],
)
def test_a_whole_number_refuses_what_is_none_or_out_of_range(text: str) -> None:
    assert list(refusals(DQN, buffer_size=text)) == ["hyperparameters.buffer_size"]


@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "True", "1.01", "-0.01", "[0.9]", "lin_0.9", "0,9", "None"])
def test_a_fraction_refuses_what_is_none_or_out_of_range(text: str) -> None:
    assert list(refusals(PPO, gamma=text)) == ["hyperparameters.gamma"]


@pytest.mark.parametrize("text", ["True", "true", "TRUE"])
def test_a_truth_value_is_read_in_any_case(text: str) -> None:
    assert parse_hyperparameters(PPO, {"use_sde": text}).keywords["use_sde"] is True


@pytest.mark.parametrize("text", ["1", "0", "yes", "None", "'True'", "[True]"])
def test_a_truth_value_is_nothing_else(text: str) -> None:
    assert refusals(PPO, use_sde=text)["hyperparameters.use_sde"].startswith("must be True or False")


@pytest.mark.parametrize("name", ["learning_rate", "clip_range", "clip_range_vf"])
def test_a_schedule_is_linear_or_a_number(name: str) -> None:
    assert parse_hyperparameters(PPO, {name: "lin_3e-4"}).keywords[name] == LinearSchedule(3e-4)
    assert parse_hyperparameters(PPO, {name: "0.1"}).keywords[name] == 0.1


@pytest.mark.parametrize(
    "text", ["lin_", "lin_-1", "lin_nan", "lin_inf", "lin_0", "exp_0.1", "lin_1e999", "0", "-1e-3", "lin_1e39"]
)
def test_a_schedule_refuses_what_is_not_one(text: str) -> None:
    assert list(refusals(PPO, learning_rate=text)) == ["hyperparameters.learning_rate"]


def test_optional_values_take_none() -> None:
    keywords = parse_hyperparameters(PPO, {"target_kl": "None", "clip_range_vf": "null"}).keywords
    assert (keywords["target_kl"], keywords["clip_range_vf"]) == (None, None)
    assert parse_hyperparameters(PPO, {"target_kl": "0.03"}).keywords["target_kl"] == 0.03
    assert "hyperparameters.target_kl" in refusals(PPO, target_kl="0")


@pytest.mark.parametrize(
    ("text", "value"), [("4", 4), ("(4, 'step')", (4, "step")), ("[1, 'episode']", (1, "episode")), ("1e3", 1000)]
)
def test_train_freq_is_a_number_of_steps_or_a_pair(text: str, value: object) -> None:
    assert parse_hyperparameters(DQN, {"train_freq": text}).keywords["train_freq"] == value


@pytest.mark.parametrize(
    "text", ["0", "(0, 'step')", "(4, 'second')", "(4,)", "4, 'step'", "('step', 4)", "(True, 'step')"]
)
def test_train_freq_refuses_other_pairs(text: str) -> None:
    assert list(refusals(DQN, train_freq=text)) == ["hyperparameters.train_freq"]


@pytest.mark.parametrize("text", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_device_is_one_of_pytorch(text: str) -> None:
    assert parse_hyperparameters(PPO, {"device": text}).keywords["device"] == text


@pytest.mark.parametrize("text", ["gpu", "cuda:x", "cuda:", "CPU", "meta", "cpu\n0"])
def test_device_refuses_others(text: str) -> None:
    assert list(refusals(PPO, device=text)) == ["hyperparameters.device"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("True", Normalize(gamma=0.9)),
        ("true", Normalize(gamma=0.9)),
        ("False", None),
        ("{'norm_obs': True, 'norm_reward': False}", Normalize(norm_reward=False, gamma=0.9)),
        ("dict(norm_obs=True, norm_reward=False, gamma=0.98)", Normalize(norm_reward=False, gamma=0.98)),
        ("dict(norm_obs_keys=['a', 'b'], clip_obs=5)", Normalize(norm_obs_keys=("a", "b"), clip_obs=5.0, gamma=0.9)),
        ("{}", Normalize(gamma=0.9)),
    ],
)
def test_normalize_is_read_as_zoo_writes_it(text: str, expected: Normalize | None) -> None:
    assert parse_hyperparameters(PPO, {"gamma": "0.9", "normalize": text}).normalize == expected


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("1", "normalize"),
        ("[True]", "normalize"),
        ("{'norm_ob': True}", "normalize.norm_ob"),
        ("{'norm_obs': 1}", "normalize.norm_obs"),
        ("{'training': False}", "normalize.training"),
        ("dict(clip_obs=0)", "normalize.clip_obs"),
        ("dict(norm_obs=True, norm_obs=True)", "normalize"),
        ("dict(**{'norm_obs': True})", "normalize"),
    ],
)
def test_normalize_names_what_is_wrong(text: str, field: str) -> None:
    assert list(refusals(PPO, normalize=text)) == [f"hyperparameters.{field}"]


def test_policy_kwargs_are_read_as_zoo_writes_them() -> None:
    text = (
        "dict(log_std_init=-2,\n    ortho_init=False, activation_fn=nn.ReLU, net_arch=[dict(pi=[256], vf=[64, 64])],)"
    )
    assert parse_hyperparameters(PPO, {"policy_kwargs": text}).keywords["policy_kwargs"] == {
        "log_std_init": -2.0,
        "ortho_init": False,
        "activation_fn": ClassName("nn.ReLU"),
        "net_arch": {"pi": [256], "vf": [64, 64]},
    }


@pytest.mark.parametrize("name", ["th.optim.AdamW", "torch.optim.AdamW", "optim.AdamW"])
def test_a_class_may_be_named_by_any_usual_name_of_its_module(name: str) -> None:
    text = f"dict(optimizer_class={name}, optimizer_kwargs=dict(weight_decay=1e-2, betas=(0.9, 0.99)))"
    kwargs = parse_hyperparameters(PPO, {"policy_kwargs": text}).keywords["policy_kwargs"]
    assert kwargs["optimizer_class"] == ClassName("th.optim.AdamW")
    assert kwargs["optimizer_kwargs"] == {"weight_decay": 0.01, "betas": (0.9, 0.99)}


@pytest.mark.parametrize(
    ("algorithm", "text", "path"),
    [
        (PPO, "dict(net_arc=[64])", ".net_arc"),
        (PPO, "dict(net_arch=[64, 0])", ".net_arch"),
        (PPO, "dict(net_arch=[64, 100000])", ".net_arch"),
        (PPO, "dict(net_arch=[64, True])", ".net_arch"),
        (PPO, "dict(net_arch=[1] * 9)", ""),
        (PPO, f"dict(net_arch={[8] * 17})", ".net_arch"),
        (PPO, "dict(net_arch=dict(pi=[64], qf=[64]))", ".net_arch"),
        (DQN, "dict(net_arch=dict(pi=[64], vf=[64]))", ".net_arch"),
        (DQN, "dict(log_std_init=-2)", ".log_std_init"),
        (PPO, "dict(activation_fn=nn.Linear)", ".activation_fn"),
        (PPO, "dict(activation_fn=os.system)", ".activation_fn"),
        (PPO, "dict(activation_fn='nn.ReLU')", ".activation_fn"),
        (PPO, "dict(use_sde=True)", ".use_sde"),
        (PPO, "dict(squash_output=True)", ".squash_output"),
        (PPO, "dict(optimizer_kwargs=dict(lr=1))", ".optimizer_kwargs.lr"),
        (PPO, "dict(optimizer_kwargs=dict(alpha=0.9))", ".optimizer_kwargs.alpha"),
        (PPO, "dict(optimizer_kwargs=dict(betas=(0.9, 1)))", ".optimizer_kwargs.betas"),
        (PPO, "dict(optimizer_kwargs=dict(fused=True, foreach=True))", ".optimizer_kwargs"),
        (A2C, "dict(optimizer_kwargs=dict(eps=1e-5))", ".optimizer_kwargs"),
        (
            PPO,
            "dict(features_extractor_class=FlattenExtractor, features_extractor_kwargs=dict(features_dim=9))",
            ".features_extractor_kwargs.features_dim",
        ),
        (PPO, "dict(features_extractor_kwargs=dict(alpha=0.9))", ".features_extractor_kwargs"),
        (PPO, "dict(features_extractor_kwargs=dict(features_dim=9, cnn_output_dim=9))", ".features_extractor_kwargs"),
        (SAC, "dict(net_arch=dict(qf=[64]))", ".net_arch"),
        (SAC, "dict(net_arch=dict())", ".net_arch"),
        (SAC, "dict(clip_mean=1e299)", ".clip_mean"),
        (PPO, "dict(optimizer_kwargs=dict(eps=1e-60))", ".optimizer_kwargs.eps"),
        (PPO, "[64, 64]", ""),
        (PPO, "None", ""),
        (PPO, "dict(1)", ""),
        (PPO, "dict([('net_arch', [64])])", ""),
        (PPO, "{**{'net_arch': [64]}}", ""),
        (PPO, "{1: 2}", ""),
    ],
)
def test_policy_kwargs_name_what_is_wrong(algorithm: Algorithm, text: str, path: str) -> None:
    assert list(refusals(algorithm, policy_kwargs=text)) == [f"hyperparameters.policy_kwargs{path}"]


def test_features_extractor_kwargs_are_those_of_the_policy() -> None:
    text = "dict(features_extractor_kwargs=dict(features_dim=256))"
    for said in ({"policy": "CnnPolicy"}, {}):
        parsed = parse_hyperparameters(DQN, {**said, "policy_kwargs": text})
        assert parsed.keywords["policy_kwargs"] == {"features_extractor_kwargs": {"features_dim": 256}}
    assert list(refusals(DQN, policy="MlpPolicy", policy_kwargs=text)) == [
        "hyperparameters.policy_kwargs.features_extractor_kwargs.features_dim"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "dict(net_arch=__import__('os').listdir('/'))",
        "dict(net_arch=[x for x in (1, 2)])",
        "dict(net_arch=(lambda: [64])())",
        "dict(net_arch=[2**99999999])",
        "dict(net_arch=['a'*99999999])",
        "dict(net_arch=[...])",
        "dict(net_arch=[1j])",
        "dict(net_arch=[b'a'])",
        "dict(net_arch=f'{1}')",
        "dict(net_arch=(x:=[64]))",
        "dict(net_arch=[64][0])",
        "dict(net_arch=[].__class__.__base__)",
        "dict(net_arch=not [])",
        "dict(net_arch=-[])",
        "dict(net_arch=--1)",
        "dict(net_arch=-True)",
        "dict(net_arch=[64] if True else [32])",
        "dict(a='\\u0041')",
        "dict(",
        "dict(a=1",
        "open('/etc/passwd')",
        "[" * 900 + "]" * 900,
        "[" * 60 + "]" * 60,
        "dict(a=" * 200 + ")" * 200,
        "[" + "-" * 1900 + "1]",
        "[" + "a." * 900 + "a]",
        "[" + "1," * 900 + "]",
        "[" + "9" * 1900 + "]",
        "[1e999]",
        "(" + "a" * 3000 + ")",
        "[\0]",
        "[\ud800]",
    ],
)
def test_hostile_text_is_refused_and_not_evaluated(text: str) -> None:
    (rule,) = refusals(PPO, policy_kwargs=text).values()
    assert len(rule) < 700


def test_an_unknown_key_is_answered_with_what_is_meant_and_known() -> None:
    rule = refusals(PPO, learnin_rate="1")["hyperparameters.learnin_rate"]
    assert rule.startswith("unknown for PPO; did you mean learning_rate? Known: batch_size, ")


def test_a_key_of_another_algorithm_is_answered_with_its_name() -> None:
    assert "DQN" in refusals(PPO, buffer_size="1")["hyperparameters.buffer_size"]


@pytest.mark.parametrize("key", sorted(REFUSED))
@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_keyword_that_makes_no_sense_as_text_is_refused_with_the_reason(algorithm: Algorithm, key: str) -> None:
    assert refusals(algorithm, **{key: "1"}) == {f"hyperparameters.{key}": REFUSED[key]}


def test_total_timesteps_is_hinted_at_for_zoos_n_timesteps() -> None:
    assert "total_timesteps" in refusals(PPO, n_timesteps="1e6")["hyperparameters.n_timesteps"]


def test_every_mistake_is_reported_at_once() -> None:
    assert list(refusals(PPO, gamma="2", x="1", n_steps="a")) == [
        "hyperparameters.gamma",
        "hyperparameters.x",
        "hyperparameters.n_steps",
    ]


def test_messages_repeat_only_a_part_of_long_input() -> None:
    with pytest.raises(InvalidRun) as caught:
        parse_hyperparameters(PPO, {"k" * 100_000: "1", "gamma": "v" * 100_000, "device": "d" * 1900})
    assert len(str(caught.value)) < 2000


def test_too_many_entries_are_refused() -> None:
    with pytest.raises(InvalidRun, match="101 entries"):
        parse_hyperparameters(PPO, {f"k{i}": "1" for i in range(101)})


@pytest.mark.parametrize(
    ("algorithm", "mapping", "key"),
    [
        (PPO, {"batch_size": "1"}, "batch_size"),
        (DQN, {"exploration_initial_eps": "0.1", "exploration_final_eps": "0.2"}, "exploration_final_eps"),
        (DQN, {"exploration_initial_eps": "0.01"}, "exploration_final_eps"),
        (DQN, {"optimize_memory_usage": "True"}, "optimize_memory_usage"),
        (DQN, {"exploration_fraction": "0"}, "exploration_fraction"),
        (SAC, {"optimize_memory_usage": "True"}, "optimize_memory_usage"),
        (SAC, {"noise_type": "normal"}, "noise_type"),
        (SAC, {"noise_std": "0.1"}, "noise_std"),
        (CROSSQ, {"batch_size": "1"}, "batch_size"),
        (CROSSQ, {"policy": "CnnPolicy"}, "policy"),
        (PPO, {"policy": "MlpLstmPolicy"}, "policy"),
        (RECURRENT_PPO, {"policy": "MlpPolicy"}, "policy"),
        (RECURRENT_PPO, {"batch_size": "1"}, "batch_size"),
        (RECURRENT_PPO, {"policy_kwargs": "dict(shared_lstm=True)"}, "policy_kwargs.shared_lstm"),
        (
            RECURRENT_PPO,
            {"policy_kwargs": "dict(shared_lstm=True, enable_critic_lstm=False, share_features_extractor=False)"},
            "policy_kwargs.shared_lstm",
        ),
        (TQC, {"top_quantiles_to_drop_per_net": "25"}, "top_quantiles_to_drop_per_net"),
        (
            TQC,
            {"policy_kwargs": "dict(n_quantiles=2)"},
            "top_quantiles_to_drop_per_net",
        ),
        (
            DQN,
            {
                "optimize_memory_usage": "True",
                "n_steps": "3",
                "replay_buffer_kwargs": "dict(handle_timeout_termination=False)",
            },
            "optimize_memory_usage",
        ),
    ],
)
def test_hyperparameters_that_contradict_each_other_are_refused(
    algorithm: Algorithm, mapping: dict[str, str], key: str
) -> None:
    assert list(refusals(algorithm, **mapping)) == [f"hyperparameters.{key}"]


@pytest.mark.parametrize("text", ["auto", "auto_0.1", "auto_1e-2", "0.05", "0"])
def test_entropy_coefficient_is_a_number_or_learned(text: str) -> None:
    value = parse_hyperparameters(SAC, {"ent_coef": text}).keywords["ent_coef"]
    assert value == (text if text.startswith("auto") else float(text))


@pytest.mark.parametrize("text", ["auto_", "auto_0", "auto_-1", "auto_nan", "auto_1e-60", "automatic", "-0.1", "True"])
def test_entropy_coefficient_refuses_what_is_neither(text: str) -> None:
    assert list(refusals(SAC, ent_coef=text)) == ["hyperparameters.ent_coef"]


def test_target_entropy_may_be_negative() -> None:
    assert parse_hyperparameters(SAC, {"target_entropy": "-2.5"}).keywords["target_entropy"] == -2.5
    assert list(refusals(SAC, target_entropy="auto_1")) == ["hyperparameters.target_entropy"]


def test_action_noise_is_named_as_zoo_names_it() -> None:
    for kind in ("normal", "ornstein-uhlenbeck"):
        parsed = parse_hyperparameters(Algorithm.TD3, {"noise_type": kind, "noise_std": "0.1"})
        assert parsed.noise == ActionNoise(kind, 0.1)
    assert parse_hyperparameters(SAC, {}).noise is None
    assert list(refusals(SAC, noise_type="pink", noise_std="0.1")) == ["hyperparameters.noise_type"]
    assert "SAC and TD3 and TQC and CrossQ have it" in refusals(DQN, noise_type="normal")["hyperparameters.noise_type"]


@pytest.mark.parametrize(
    ("algorithm", "mapping"),
    [
        (PPO, {"batch_size": "1", "normalize_advantage": "False"}),
        (PPO, {"use_sde": "True", "policy_kwargs": "dict(squash_output=True)"}),
        (CROSSQ, {"batch_size": "1", "policy_kwargs": "dict(batch_norm=False)"}),
        (SAC, {"policy_kwargs": "dict(net_arch=dict(pi=[64], qf=[400, 300]), log_std_init=-3.67, n_critics=1)"}),
        (A2C, {"use_rms_prop": "False", "policy_kwargs": "dict(optimizer_kwargs=dict(eps=1e-5))"}),
        (A2C, {"policy_kwargs": "dict(optimizer_class=RMSpropTFLike, optimizer_kwargs=dict(eps=1e-5))"}),
        (DQN, {"exploration_initial_eps": "0.01", "exploration_final_eps": "0.01"}),
        (
            DQN,
            {"optimize_memory_usage": "True", "replay_buffer_kwargs": "dict(handle_timeout_termination=False)"},
        ),
    ],
)
def test_hyperparameters_that_go_together_are_taken(algorithm: Algorithm, mapping: dict[str, str]) -> None:
    assert mapping.keys() <= parse_hyperparameters(algorithm, mapping).keywords.keys()


def test_n_envs_policy_and_frame_stack_are_kept_apart_from_the_keywords() -> None:
    parsed = parse_hyperparameters(PPO, {"n_envs": "8", "policy": "CnnPolicy", "frame_stack": "4"})
    assert (parsed.n_envs, parsed.policy, parsed.frame_stack) == (8, "CnnPolicy", 4)
    assert not {"n_envs", "policy", "frame_stack"} & parsed.keywords.keys()
    assert parse_hyperparameters(PPO, {"frame_stack": "1"}).frame_stack is None


@pytest.mark.parametrize(
    "mapping",
    [
        # hyperparams/*.yml of RL Zoo, as the map writes them.
        {"n_envs": "8", "n_steps": "32", "batch_size": "256", "gae_lambda": "0.8", "gamma": "0.98", "n_epochs": "20",
         "ent_coef": "0.0", "learning_rate": "lin_0.001", "clip_range": "lin_0.2", "policy": "MlpPolicy"},
        {"normalize": "true", "n_envs": "1", "batch_size": "256", "n_steps": "8", "gamma": "0.9999",
         "learning_rate": "7.77e-05", "ent_coef": "0.00429", "clip_range": "0.1", "gae_lambda": "0.9",
         "max_grad_norm": "5", "vf_coef": "0.19", "use_sde": "True",
         "policy_kwargs": "dict(log_std_init=-3.29, ortho_init=False)"},
        {"frame_stack": "4", "policy": "CnnPolicy", "n_envs": "8", "n_steps": "128", "n_epochs": "4",
         "batch_size": "256", "learning_rate": "lin_2.5e-4", "clip_range": "lin_0.1", "vf_coef": "0.5",
         "ent_coef": "0.01"},
    ],
)  # fmt: skip
def test_zoos_own_hyperparameters_are_taken(mapping: dict[str, str]) -> None:
    assert parse_hyperparameters(PPO, mapping).n_envs == int(mapping["n_envs"])


@pytest.mark.parametrize(
    ("algorithm", "mapping"),
    [
        (SAC, {"policy": "MlpPolicy", "learning_rate": "3e-4", "buffer_size": "50000", "batch_size": "512",
               "ent_coef": "0.1", "train_freq": "32", "gradient_steps": "32", "gamma": "0.9999", "tau": "0.01",
               "learning_starts": "0", "use_sde": "True",
               "policy_kwargs": "dict(log_std_init=-3.67, net_arch=[64, 64])"}),
        (Algorithm.TD3, {"policy": "MlpPolicy", "noise_type": "ornstein-uhlenbeck", "noise_std": "0.5",
                         "gradient_steps": "1", "train_freq": "1", "learning_rate": "!!float 1e-3", "batch_size": "256",
                         "policy_kwargs": "dict(net_arch=[400, 300])"}),
        (TQC, {"top_quantiles_to_drop_per_net": "5", "ent_coef": "auto", "train_freq": "(1, 'episode')",
               "gradient_steps": "-1", "policy_kwargs": "dict(n_quantiles=25, n_critics=2)"}),
        (RECURRENT_PPO, {"policy": "MlpLstmPolicy", "normalize": "True", "n_envs": "8", "n_steps": "32",
                         "batch_size": "256", "gae_lambda": "0.8", "learning_rate": "lin_0.001",
                         "policy_kwargs": "dict(ortho_init=False, activation_fn=nn.ReLU, lstm_hidden_size=64, "
                                          "enable_critic_lstm=True, net_arch=dict(pi=[64], vf=[64]))"}),
        (Algorithm.QRDQN, {"learning_rate": "!!float 2.3e-3", "exploration_fraction": "0.16",
                           "target_update_interval": "10",
                           "policy_kwargs": "dict(net_arch=[256, 256], n_quantiles=10)"}),
    ],
)  # fmt: skip
def test_zoos_own_hyperparameters_of_other_algorithms_are_taken(algorithm: Algorithm, mapping: dict[str, str]) -> None:
    assert parse_hyperparameters(algorithm, mapping).keywords["policy_kwargs"]


KNOWN_KEYS = sorted({p.name for algorithm in Algorithm for p in parameters_of(algorithm)})
FRAGMENTS = st.sampled_from(
    ["dict(", ")", "[", "]", "{", "}", "'", '"', ",", ":", "=", "-", "lin_", "nn.ReLU", "th.optim.Adam", "True", "None",
     "net_arch", "pi", "optimizer_kwargs", "1", "0", "1e5", "1e999", "64", " ", "\n", ".", "nan", "step", "*", "\\"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    algorithm=st.sampled_from(Algorithm),
    mapping=st.dictionaries(
        st.sampled_from(KNOWN_KEYS) | st.text(max_size=20),
        st.text(max_size=60) | st.text(string.printable, max_size=60) | st.lists(FRAGMENTS, max_size=25).map("".join),
        max_size=3,
    ),
)
def test_parsing_raises_nothing_but_invalid_run(algorithm: Algorithm, mapping: dict[str, str]) -> None:
    with suppress(InvalidRun):
        parse_hyperparameters(algorithm, mapping)
        assert mapping.keys() <= {p.name for p in parameters_of(algorithm)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"norm_obs": true}', Normalize(norm_obs=True, gamma=0.99)),
        ("dict(norm_obs=false)", Normalize(norm_obs=False, gamma=0.99)),
        ('{"norm_obs": FALSE, "norm_obs_keys": null}', Normalize(norm_obs=False, gamma=0.99)),
        ("dict(norm_reward=True, norm_obs_keys=none)", Normalize(gamma=0.99)),
    ],
)
def test_words_of_json_are_values_inside_of_a_dict_too(text: str, expected: Normalize) -> None:
    assert parse_hyperparameters(PPO, {"normalize": text}).normalize == expected


def test_words_of_json_are_values_in_every_hyperparameter_with_nested_values() -> None:
    policy = '{"ortho_init": false, "optimizer_kwargs": {"amsgrad": true}}'
    assert parse_hyperparameters(PPO, {"policy_kwargs": policy}).keywords["policy_kwargs"] == {
        "ortho_init": False,
        "optimizer_kwargs": {"amsgrad": True},
    }
    buffer = '{"handle_timeout_termination": false}'
    keywords = parse_hyperparameters(DQN, {"replay_buffer_kwargs": buffer}).keywords
    assert keywords["replay_buffer_kwargs"] == {"handle_timeout_termination": False}


def test_number_that_is_none_with_32_bits_is_refused_with_the_sizes() -> None:
    for text in ("1e-60", "1e+39", "lin_1e+39"):
        rule = refusals(PPO, learning_rate=text)["hyperparameters.learning_rate"]
        assert rule.endswith(f", of a size from 1e-37 to 1e+38 (32 bits), got {text}")


def test_refused_word_is_repeated_as_it_was_given() -> None:
    broken = refusals(PPO, normalize="dict(norm_obs=yes)", policy_kwargs="dict(net_arch=[true])")
    assert broken["hyperparameters.normalize.norm_obs"] == "must be True or False, got yes"
    assert broken["hyperparameters.policy_kwargs.net_arch"].endswith("got [True]")
    assert refusals(PPO, normalize="lin_3")["hyperparameters.normalize"].endswith("got lin_3")
