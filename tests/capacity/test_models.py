"""Parameters, caches and parts of models, against other programs' counts and torch modules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys_lab.capacity import ModelSpec, NotAModel, convnet, model, names
from mlsys_lab.capacity.convnets import convnet_names
from mlsys_lab.capacity.hf import model_types
from mlsys_lab.capacity.zoo import confirmed, language_model, source, transformers
from tests.capacity.specs import LLAMA

HERE = Path(__file__).parent

#: Parameters and multiply-adds of one image in 1e9, as torchvision 0.29.2 publishes them with its weights.
TORCHVISION = json.loads((HERE / "torchvision_counts.json").read_text())

#: 125 small configs of 22 types, each with the count of the module that transformers 5.23 builds from it.
TRANSFORMERS = json.loads((HERE / "transformers_counts.json").read_text())

#: Whole config.json files with all their fields, as their repositories have them, and the published counts.
HUB = json.loads((HERE / "hub_configs.json").read_text())


@pytest.mark.parametrize(
    ("config", "count"), TRANSFORMERS, ids=[f"{c['model_type']}-{i}" for i, (c, _) in enumerate(TRANSFORMERS)]
)
def test_a_config_counts_as_the_module_that_transformers_builds_from_it(config, count):
    spec = ModelSpec.from_hf(config)
    assert spec.parameters == count
    assert sum(spec.parts.values()) == count


@pytest.mark.parametrize("name", HUB)
def test_a_config_json_with_all_its_fields_is_read_strictly_and_changes_no_count(name):
    count, config = HUB[name]
    assert ModelSpec.from_hf(config).parameters == count


def test_every_type_that_is_read_was_held_against_transformers():
    assert {c["model_type"] for c, _ in TRANSFORMERS} >= set(model_types()) - {"palm"}


@pytest.mark.parametrize("name", [n for n in transformers() if confirmed(n)])
def test_a_named_model_counts_to_the_unit(name):
    assert model(name).parameters == confirmed(name)
    assert source(name)


@pytest.mark.parametrize(
    ("name", "published"), [("palm-8b", 8.63), ("palm-62b", 62.50), ("palm-540b", 540.35)]
)
def test_palm_counts_to_the_digits_of_its_paper(name, published):
    assert round(model(name).parameters / 1e9, 2) == pytest.approx(published, abs=0.011)


@pytest.mark.parametrize("name", convnet_names())
def test_a_convolutional_network_counts_as_torchvision_publishes(name):
    net, (count, gmacs) = convnet(name), TORCHVISION[name]
    assert net.parameters == count
    assert round(net.forward_macs / 1e9, 3) == pytest.approx(gmacs, abs=1e-9)


@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([4, 6, 8]),
    st.integers(3, 40),
    st.integers(5, 50),
    st.booleans(),
    st.booleans(),
)
def test_a_llama_or_qwen2_of_any_shape_counts_as_a_torch_module(
    layers, per_head, group, d, f, V, tied, biased
):
    torch = pytest.importorskip("torch", reason="torch is the oracle: pip install torch")
    from tests.capacity.torch_modules import Llama

    heads = group * per_head
    hidden = heads * d
    with torch.device("meta"):
        module = Llama(layers, hidden, heads, per_head, d, f, V, tied, biased)
    config = {
        "model_type": "qwen2" if biased else "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": per_head,
        "intermediate_size": f,
        "vocab_size": V,
        "tie_word_embeddings": tied,
    }
    spec = ModelSpec.from_hf(config)
    assert spec.parameters == sum(p.numel() for p in module.parameters())
    counted = ModelSpec.from_torch(module)
    assert counted.parameters == spec.parameters
    assert sum(counted.parts.values()) == spec.parameters


def test_deepseek_v3_counts_671_billion_of_which_37_are_active_and_the_module_for_later_tokens_apart():
    spec = language_model("deepseek-v3")
    assert (
        spec.parameters == 671_026_419_200
    )  # with the router's correction of 256 numbers in each of 58 layers
    assert spec.active_parameters == pytest.approx(37e9, rel=0.02)
    assert spec.mtp_parameters == pytest.approx(11.5e9, rel=0.01)  # README of the weights: 11.5B unique


@pytest.mark.parametrize(
    ("name", "active", "tolerance"),
    [
        ("mixtral-8x7b", 12.9e9, 0.005),
        ("deepseek-v2", 21e9, 0.01),
        ("deepseek-v2-lite", 2.4e9, 0.025),
        ("qwen3-30b-a3b", 3.3e9, 0.02),
        ("qwen3-235b-a22b", 22e9, 0.01),
        ("mixtral-8x22b", 39e9, 0.005),
    ],
)
def test_active_parameters_are_those_that_the_authors_state(name, active, tolerance):
    assert model(name).active_parameters == pytest.approx(active, rel=tolerance)


@pytest.mark.parametrize(
    ("name", "byte_count"),
    [
        ("deepseek-v3", 70272),
        ("qwen2.5-72b", 327680),
        ("gpt2-xl", 307200),
        ("opt-13b", 819200),
        ("llama-2-7b", 524288),
        ("mixtral-8x7b", 131072),
        ("llama-3.1-405b", 516096),
        ("palm-540b", 120832),
    ],
)
def test_cache_per_token_is_the_published_one(name, byte_count):
    assert model(name).kv_bytes_per_token(2) == byte_count


def test_a_cache_of_32k_tokens_of_llama_70b_is_10_gib_and_an_encoder_keeps_none():
    assert language_model("llama-3.1-70b").kv_bytes(32768) == 10 * 2**30
    assert model("bert-base-uncased").kv_bytes_per_token() == 0
    assert model("resnet50").kv_bytes_per_token() == 0


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("meta-llama/Llama-2-7b-hf", "llama-2-7b"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b"),
        ("GPT2-XL", "gpt2-xl"),
        ("mistralai/Mistral-7B-v0.1", "mistral-7b-v0.1"),
        ("ResNet50", "resnet50"),
        ("GPT-3 175B", "gpt3-175b"),
        ("meta-llama/Meta-Llama-3-8B", "llama-3-8b"),
        ("DeepSeek-V3", "deepseek-v3"),
        ("bloom", "bloom-176b"),
        ("gpt-3", "gpt3-175b"),
        ("gpt2-small", "gpt2"),
        ("bert-base", "bert-base-uncased"),
    ],
)
def test_a_model_is_found_under_the_names_that_people_use(said, meant):
    assert model(said).name == meant


def test_no_two_named_models_answer_to_one_name():
    assert all(model(name).name == name for name in names())


def test_a_config_is_read_from_a_file_and_from_its_folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert ModelSpec.from_hf(tmp_path).parameters == 3_212_749_824
    assert model(tmp_path / "config.json").parameters == 3_212_749_824


def test_a_missing_field_takes_the_types_documented_default():
    grouped = {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}
    assert ModelSpec.from_hf(grouped).kv_heads == 24
    untied = {k: v for k, v in LLAMA.items() if k != "tie_word_embeddings"}
    assert ModelSpec.from_hf(untied).parameters == 3_212_749_824 + 128256 * 3072
    assert ModelSpec.from_hf(LLAMA | {"head_dim": None}).head_dim == 128
    wide = LLAMA | {"model_type": "qwen3"}
    assert ModelSpec.from_hf(wide).head_dim == 128
    assert ModelSpec.from_hf(wide | {"hidden_size": 2400}).head_dim == 128


def test_an_unknown_field_is_refused_by_name_and_left_out_with_a_warning_when_not_strict():
    config = LLAMA | {"num_kv_heads": 8}
    with pytest.raises(NotAModel, match=r"num_kv_heads.*did you mean num_key_value_heads"):
        ModelSpec.from_hf(config)
    with pytest.warns(UserWarning, match="num_kv_heads"):
        assert ModelSpec.from_hf(config, strict=False).parameters == 3_212_749_824


def test_fields_that_change_no_count_change_none():
    neutral = {
        "rope_theta": 5e5,
        "torch_dtype": "bfloat16",
        "rope_scaling": {"factor": 8.0},
        "use_cache": True,
        "architectures": ["LlamaForCausalLM"],
        "transformers_version": "4.43",
        "pruned_heads": {},
    }
    assert ModelSpec.from_hf(LLAMA | neutral).parameters == 3_212_749_824
