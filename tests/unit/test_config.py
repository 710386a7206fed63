"""Where each setting comes from, what values it takes, and what is said of one that it does not take."""

import pytest

from agproxy.config import BY_NAME, SETTINGS, Config, load, parse, show
from agproxy.errors import ConfigError

FILE = "/home/config.json"


def loaded(flags=None, environ=None, file=None):
    return load(flags or {}, environ or {}, file or {}, FILE)


def effective(flags=None, environ=None, file=None):
    return loaded(flags, environ, file).config


def refused(flags=None, environ=None, file=None):
    with pytest.raises(ConfigError) as caught:
        loaded(flags, environ, file)
    return str(caught.value)


# --- precedence


def test_nothing_given_is_the_default():
    found = loaded()

    assert found.config == Config()
    assert (found.config.port, found.config.host, found.config.auth_mode) == (8045, "localhost", "auto")
    assert set(found.sources.values()) == {"default"}
    assert found.warnings == ()


def test_flag_goes_before_environment_before_file_before_default():
    file, environ, flags = {"port": 1}, {"AGPROXY_PORT": "2"}, {"port": "3"}

    assert (effective(file=file).port, loaded(file=file).sources["port"]) == (1, f"{FILE}: port")
    assert (effective(None, environ, file).port, loaded(None, environ, file).sources["port"]) == (2, "AGPROXY_PORT")
    assert (effective(flags, environ, file).port, loaded(flags, environ, file).sources["port"]) == (3, "--port")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_each_setting_takes_its_default_from_each_source(setting):
    texts = {"keys": "", "map": "", "list": ""}
    text = texts.get(setting.kind, show(setting, setting.default) if not setting.secret else "")
    by_variable = loaded(environ={setting.variable: text})
    by_flag = loaded(flags={setting.name: text})
    file = [] if setting.kind in ("keys", "list") else {} if setting.kind == "map" else setting.default
    by_file = loaded(file=nest(setting.key, file))

    assert by_variable.config == by_flag.config == by_file.config == Config()
    assert by_flag.sources[setting.name] == setting.flag
    assert by_file.sources[setting.name] == f"{FILE}: {setting.key}"


def nest(key, value):
    for step in reversed(key.split(".")):
        value = {step: value}
    return value


# --- names


def test_names_of_the_issue_are_nested_by_the_dot_and_drop_it_elsewhere():
    assert BY_NAME["auth_mode"].key == "proxy.auth_mode"
    assert (BY_NAME["auth_mode"].variable, BY_NAME["auth_mode"].flag) == ("AGPROXY_AUTH_MODE", "--auth-mode")

    nested = {"proxy": {"auth_mode": "strict", "api_key": "k", "allow_lan_access": True}}
    config = effective(file=nested)
    assert (config.auth_mode, config.api_key, config.allow_lan_access) == ("strict", (("key1", "k"),), True)
    assert effective(file={"proxy.auth_mode": "strict"}).auth_mode == "strict"
    assert effective(environ={"AGPROXY_AUTH_MODE": "strict"}).auth_mode == "strict"


def test_no_two_settings_share_a_name():
    for names in (
        [s.name for s in SETTINGS],
        [s.key for s in SETTINGS],
        [s.flag for s in SETTINGS],
        [s.variable for s in SETTINGS],
    ):
        assert len(set(names)) == len(names)


def test_an_unknown_variable_is_a_warning_that_names_the_nearest():
    found = loaded(environ={"AGPROXY_PROT": "1", "AGPROXY_HOME": "/x", "PATH": "/bin", "agproxy_port": "1"})

    assert found.config == Config()
    assert found.warnings == ("unknown variable AGPROXY_PROT; did you mean AGPROXY_PORT?",)


def test_a_variable_near_to_none_is_a_warning_all_the_same():
    assert loaded(environ={"AGPROXY_": "1"}).warnings[0].startswith("unknown variable AGPROXY_")


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ({"prot": 1}, "unknown key 'prot'; did you mean port?"),
        ({"auth_mode": "off"}, "unknown key 'auth_mode'; did you mean proxy.auth_mode?"),
        ({"proxy": {"authmode": "off"}}, "unknown key 'proxy.authmode'; did you mean proxy.auth_mode?"),
        ({"proxy": "off"}, "unknown key 'proxy'"),
        ({"zzz": {"port": 1}}, "unknown key 'zzz'"),
    ],
)
def test_an_unknown_key_of_the_file_is_an_error_that_names_the_nearest(file, told):
    message = refused(file=file)

    assert message.startswith(f"{FILE}: {told}")


# --- values

BAD = [
    ("port", "http", "a whole number was expected"),
    ("port", "80.5", "a whole number was expected"),
    ("port", "", "a whole number was expected"),
    ("port", "65536", "at most 65535 was expected"),
    ("port", "-1", "at least 0 was expected"),
    ("max_attempts", "0", "at least 1 was expected"),
    ("max_wait_seconds", "soon", "a number was expected"),
    ("max_wait_seconds", "nan", "a finite number was expected"),
    ("max_wait_seconds", "1e999", "a finite number was expected"),
    ("max_wait_seconds", "-0.1", "at least 0 was expected"),
    ("auth_mode", "on", "one of off, strict, all_except_health, auto was expected"),
    ("allow_lan_access", "maybe", "on or off was expected"),
    ("model_map", "gpt-4o", "a JSON object of name -> model, or a=b,c*=d was expected"),
    ("model_map", "a=b,=c", "a=b,c*=d was expected"),
    ("model_map", "a=", "a=b,c*=d was expected"),
    ("model_map", '{"a": 1}', "a JSON object"),
    ("model_map", '{"a": "b"', "a JSON object"),
    ("model_map", '{"a": ""}', "a JSON object"),
]


@pytest.mark.parametrize(("name", "text", "told"), BAD)
def test_a_bad_value_is_an_error_that_names_source_and_value(name, text, told):
    setting = BY_NAME[name]
    message = refused(flags={name: text})

    assert message.startswith(f"{setting.flag}: {text!r}: ")
    assert told in message
    if text:
        assert refused(environ={setting.variable: text}).startswith(f"{setting.variable}: {text!r}: ")


BAD_JSON = [
    ("port", 1.5),
    ("port", True),
    ("port", None),
    ("port", [1]),
    ("port", 10**400),
    ("max_wait_seconds", True),
    ("max_wait_seconds", 10**400),
    ("max_wait_seconds", {}),
    ("thoughts", 1),
    ("thoughts", None),
    ("host", 1),
    ("host", None),
    ("log_level", ["info"]),
    ("model_map", []),
    ("model_map", {"a": None}),
    ("api_key", 5),
    ("api_key", [5]),
    ("api_key", {"laptop": ""}),
    ("api_key", {"laptop": 5}),
    ("allowed_hosts", {"a": "b"}),
    ("allowed_hosts", [1]),
]


@pytest.mark.parametrize(("name", "value"), BAD_JSON)
def test_a_bad_value_in_the_file_is_an_error_that_names_its_key(name, value):
    assert refused(file={BY_NAME[name].key: value}).startswith(f"{FILE}: {BY_NAME[name].key}:")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", True),
        ("TRUE", True),
        ("yes", True),
        ("on", True),
        ("0", False),
        ("False", False),
        ("no", False),
        ("off", False),
    ],
)
def test_yes_and_no_have_several_words(text, value):
    assert effective(environ={"AGPROXY_ALLOW_LAN_ACCESS": text}).allow_lan_access is value


def test_a_variable_that_is_set_to_nothing_is_not_set():
    """Compose files write `AGPROXY_PORT=${PORT:-}`."""
    environ = {
        setting.variable: "" for setting in SETTINGS if setting.kind in ("int", "float", "bool") or setting.choices
    }
    found = loaded(environ=environ, file={"port": 1, "log_level": "debug"})

    assert (found.config.port, found.config.log_level) == (1, "debug")
    assert found.sources["log_level"] == f"{FILE}: log_level"


def test_an_empty_text_is_a_value_where_it_means_something():
    found = loaded(environ={"AGPROXY_DEFAULT_MODEL": ""}, file={"default_model": "gemini-2.5-flash"})

    assert (found.config.default_model, found.sources["default_model"]) == ("", "AGPROXY_DEFAULT_MODEL")


def test_client_keys_come_alone_by_commas_or_with_names():
    assert effective(environ={"AGPROXY_API_KEY": "a"}).api_key == (("key1", "a"),)
    assert effective(environ={"AGPROXY_API_KEY": " a , b,, "}).api_key == (("key1", "a"), ("key2", "b"))
    assert effective(file={"proxy": {"api_key": ["a", "b"]}}).api_key == (("key1", "a"), ("key2", "b"))
    named = {"proxy": {"api_key": {"laptop": "a", "phone": "b,c"}}}
    assert effective(file=named).api_key == (("laptop", "a"), ("phone", "b,c"))
    assert effective(environ={"AGPROXY_API_KEY": ""}, file=named).api_key == ()


@pytest.mark.parametrize("key", ["a\nb", "a\x00", "\udcff", {"laptop": " a"}, {"laptop": "\ud800"}])
def test_a_key_that_no_client_could_send_is_an_error_that_does_not_show_it(key):
    message = refused(file={"proxy": {"api_key": key}})

    assert "printable" in message
    assert "laptop" not in message


def test_the_map_of_models_is_an_object_or_a_list_of_pairs():
    rules = (("gpt-4o", "gemini-2.5-pro"), ("o*", "gemini-2.5-flash"))

    assert effective(file={"model_map": dict(rules)}).model_map == rules
    assert (
        effective(environ={"AGPROXY_MODEL_MAP": ' {"gpt-4o": "gemini-2.5-pro", "o*": "gemini-2.5-flash"}'}).model_map
        == rules
    )
    assert effective(flags={"model_map": "gpt-4o=gemini-2.5-pro, o* = gemini-2.5-flash,"}).model_map == rules
    assert effective(flags={"model_map": ""}).model_map == ()


def test_a_model_of_the_map_may_have_fallbacks():
    rules = (("gpt-4o", "gemini-2.5-pro|gemini-2.5-flash"),)

    assert effective(file={"model_map": {"gpt-4o": ["gemini-2.5-pro", "gemini-2.5-flash"]}}).model_map == rules
    assert effective(flags={"model_map": "gpt-4o=gemini-2.5-pro|gemini-2.5-flash"}).model_map == rules
    for value in ("gpt-4o=a|", "gpt-4o=|a", "gpt-4o=a||b"):
        assert "with a|b for a fallback" in refused(flags={"model_map": value})
    for value in ([], ["a", ""], ["a", 5], [["a"]]):
        assert refused(file={"model_map": {"gpt-4o": value}}).startswith(f"{FILE}: model_map:")


def test_lists_come_by_commas_or_as_json():
    assert effective(environ={"AGPROXY_ALLOWED_HOSTS": "a, *.b ,"}).allowed_hosts == ("a", "*.b")
    assert effective(file={"allowed_hosts": ["a", "*.b"]}).allowed_hosts == ("a", "*.b")


# --- what settings do to one another


def test_lan_access_opens_the_default_host_and_asks_for_a_key():
    found = loaded(environ={"AGPROXY_ALLOW_LAN_ACCESS": "1"})

    assert (found.config.host, found.sources["host"]) == ("0.0.0.0", "AGPROXY_ALLOW_LAN_ACCESS")
    assert found.config.effective_auth_mode == "all_except_health"


def test_a_host_that_was_named_stays_with_lan_access():
    environ = {"AGPROXY_ALLOW_LAN_ACCESS": "1", "AGPROXY_HOST": "192.168.0.7"}

    assert effective(environ=environ).host == "192.168.0.7"
    assert effective({"host": "localhost"}, environ).host == "localhost"


@pytest.mark.parametrize(
    ("mode", "lan", "effect"),
    [
        ("auto", False, "off"),
        ("auto", True, "all_except_health"),
        ("off", True, "off"),
        ("strict", False, "strict"),
        ("all_except_health", False, "all_except_health"),
    ],
)
def test_auto_follows_lan_access_and_the_others_stand(mode, lan, effect):
    assert Config(auth_mode=mode, allow_lan_access=lan).effective_auth_mode == effect


# --- secrets


def test_a_secret_is_never_shown():
    found = loaded(environ={"AGPROXY_API_KEY": "SECRET", "AGPROXY_UPSTREAM_PROXY": "http://me:SECRET@proxy"})

    assert "SECRET" not in repr(found)
    assert "SECRET" not in repr(found.config)
    for name in ("api_key", "upstream_proxy"):
        assert show(BY_NAME[name], getattr(found.config, name)) == "(set, not shown)"
        assert show(BY_NAME[name], BY_NAME[name].default) == "(not set)"


def test_the_error_for_a_secret_does_not_quote_it():
    message = refused(file={"proxy": {"api_key": {"laptop": 12345}}})

    assert "12345" not in message
    assert "proxy.api_key" in message


# --- how values are shown

SHOWN = {
    ("thoughts", "off"): "off",
    ("port", "80"): "80",
    ("host", "10.0.0.0"): "10.0.0.0",
    ("max_wait_seconds", "15"): "15",
    ("max_wait_seconds", "0.25"): "0.25",
    ("total_timeout_seconds", "1234567.5"): "1234567.5",
    ("model_map", "a=b,c*=d"): "a=b, c*=d",
    ("model_map", ""): "(none)",
    ("allowed_hosts", "a,b"): "a, b",
    ("allowed_hosts", ""): "(none)",
    ("default_model", ""): "",
}


@pytest.mark.parametrize(("given", "shown"), SHOWN.items())
def test_a_value_is_shown_as_it_could_be_written(given, shown):
    name, text = given
    setting = BY_NAME[name]
    value = parse(setting, text)

    assert show(setting, value) == shown
    if shown != "(none)":
        assert parse(setting, shown) == value


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_each_default_keeps_its_own_rules_and_has_a_word_of_help(setting):
    assert setting.help
    if setting.kind in ("bool", "int", "float", "str"):
        assert parse(setting, setting.default) == setting.default
