import json
import re
import tomllib
from pathlib import Path

import pytest

from pipeline.config.config import Config
from pipeline.config.environment import variable_of
from pipeline.config.key_names import GONE, known_keys
from pipeline.config.loader import find_config, load_config
from pipeline.durations import format_duration, parse_duration
from pipeline.errors import ConfigError
from storage.frames import DAY, HOUR, MINUTE, SECOND

ROOT = Path(__file__).parent.parent
PASSWORD = "s3cret-pa55"
URL = f"postgresql://risk:{PASSWORD}@db/fraud"


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to be in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(directory: Path, toml: str = "", **environ: str) -> Config:
    path = directory / "config.toml"
    path.write_text(toml, encoding="utf-8")
    return load_config(path, environ)


def refusal(directory: Path, toml: str = "", **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(directory, toml, **environ)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_shipped_file_says_the_built_in_defaults() -> None:
    shipped = load_config(ROOT / "config.toml", {})
    assert shipped.model_dump() == Config().model_dump()
    assert shipped.public_text() == Config().public_text()


def test_the_shipped_file_has_every_key_with_a_comment_near() -> None:
    section, commented = "", dict[str, bool]()
    lines = (ROOT / "config.toml").read_text(encoding="utf-8").splitlines()
    near = False
    for line in lines:
        if line.startswith("["):
            section, near = line.strip("[]"), False
        elif line.startswith("#"):
            near = True
        elif not line:
            near = False
        elif key := re.match(r"\w+", line):
            commented[f"{section}.{key[0]}"] = near
    expected = {key for key in known_keys() if "*" not in key}
    assert set(commented) == expected
    assert all(commented.values()), commented


def test_every_key_is_documented_with_its_default() -> None:
    section, documented = "", dict[str, str]()
    for line in (ROOT / "docs/configuration.md").read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"## \[([\w.]+)\]", line):
            section = heading[1].replace("NAME", "*")
        if row := re.match(r"\| `(\w+)` \|.*\| ([^|]+) \|$", line):
            documented[f"{section}.{row[1]}"] = row[2].strip("`")
    assert set(documented) == set(known_keys())
    text = Config().public_text()
    for part in re.split(r"\n(?=\[)", text):
        name = part[1 : part.index("]")]
        for key, default in re.findall(r"^(\w+) = (.*)$", part, re.M):
            assert documented[f"{name}.{key}"] == default


def test_without_any_file_the_defaults_apply(in_tmp: Path) -> None:
    config = load_config(None, {})
    assert config.model_dump() == Config().model_dump()
    assert config.origin == "built-in defaults"


def test_a_file_is_found_by_option_then_variable_then_directory(in_tmp: Path) -> None:
    assert find_config(None, {}) is None
    (in_tmp / "config.toml").touch()
    assert find_config(None, {}) == Path("config.toml")
    assert find_config(None, {"FRAUDWATCH_CONFIG": "b.toml"}) == Path("b.toml")
    assert find_config(Path("a.toml"), {"FRAUDWATCH_CONFIG": "b.toml"}) == Path("a.toml")


def test_durations_are_microseconds_and_lookback_is_the_longest_window_and_maturity(tmp_path: Path) -> None:
    config = load(tmp_path, '[features]\nwindows = ["1h", "2d"]\n[labels]\nmaturity = "1w"')
    assert config.features.windows == (HOUR, 2 * DAY)
    assert config.lookback == 9 * DAY


@pytest.mark.parametrize(
    ("text", "span"),
    [("90s", 90 * SECOND), ("15m", 15 * MINUTE), ("1h", HOUR), ("30 d", 30 * DAY), ("2w", 14 * DAY)],
)
def test_durations_read_and_write(text: str, span: int) -> None:
    assert parse_duration(text) == span
    assert parse_duration(format_duration(span)) == span


@pytest.mark.parametrize("text", ["", "30", 30, "d", "-1d", "1.5h", "1 month", "1d 2h", None])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(text)


OIDC = "[oidc]\nissuer = 'https://x'\nclient_id = 'f'\nclient_secret_file = 's'\nroles = {fraud = 'reviewer'}"
ENTITIES = '[schema]\nentities = ["a"]\n'
REFUSED = [
    # unknown names
    ("[alerts]\nperday = 5", "alerts.perday is not a key, did you mean alerts.per_day? (config.toml"),
    ("[alrts]\nper_day = 5", "alrts is not a key, did you mean alerts?"),
    ("[notify]\nmail = 'x'", "notify.mail is not a key; keys are urls, urls_file, urgent"),
    # keys and sections of earlier versions
    ("[choose]\nstrategy = 'auto'", "choose is no longer a key: [choose] is [strategy] now"),
    ("[shadow.a.choose]\nstrategy = 'auto'", "shadow.a.choose is no longer a key: [choose] is [strategy] now"),
    ("[strategy]\nfew = 3", "strategy.few is no longer a key: it is strategy.min_positives_blend now"),
    ("[shadow.a.strategy]\nconfidence = 0.9", "shadow.a.strategy.confidence is no longer a key: remove it"),
    ("[strategy]\nevidence_rows = 0", "strategy.evidence_rows is no longer a key: remove it"),
    ("[training]\nseed = 7", "training.seed is no longer a key: remove it: the seed is always 7"),
    ("[shadow.a.training]\ntrees = 50", "shadow.a.training.trees is no longer a key: remove it: an isolation"),
    ("[labels]\ndefault_source = 'x'", "labels.default_source is no longer a key: remove it"),
    ("[quality]\nalarm_change = 0.2", "quality.alarm_change is no longer a key: remove it"),
    ("[notify]\nevents = ['drift']", "notify.events is no longer a key: write the events in front of each URL"),
    ("[watch.inbox]\nfolder = 'x'\nsettle = '10s'", "watch.inbox.settle is no longer a key: it is settle_time now"),
    # URLs to tell people at are secrets, whatever is wrong with them
    ("[notify]\nurls = ['slack s3cret']", "notify.urls must be Apprise URLs such as"),
    ("[notify]\nurls = ['flgs=json://s3cret']", "events are flags, drift, quality"),
    ("[notify]\nurls = 'json://s3cret'", "notify.urls must be a list in square brackets, got a value not shown"),
    ("[notify]\nurgent = ['flag']", "notify.urgent must be one of"),
    ("[notify]\nquiet_hours = ['22:00']", "notify.quiet_hours must be two different times of day"),
    ("[notify]\nquiet_hours = ['22:00', '24:00']", "notify.quiet_hours must be two different times of day"),
    # wrong types
    ("alerts = 3", "alerts must be a table, got 3"),
    ("[alerts]\nper_day = '5'", 'alerts.per_day must be a whole number, got "5"'),
    ("[alerts]\nper_day = 5.5", "alerts.per_day must be a whole number, got 5.5"),
    ("[alerts]\nper_day = true", "alerts.per_day must be a whole number, got true"),
    ("[monitor]\nname = 3", "monitor.name must be text in quotes, got 3"),
    ("[features]\nwindows = '7d'", 'features.windows must be a list in square brackets, got "7d"'),
    ("[labels]\nmaturity = 30", "labels.maturity must be a duration such as"),
    ("[labels]\nnever_by_silence = {status = 'x'}", "labels.never_by_silence must be a list in square"),
    ("[schema]\nline_items = 'yes'", 'schema.line_items must be true or false, got "yes"'),
    # what `init --from` left open
    ("[schema]\ncurrency = 'c'\nrates = 'CHECK'", "schema.rates is not answered yet: write one of"),
    ("[schema]\nentities = ['a', 'CHECK']", "schema.entities is not answered yet: write one of"),
    ("[format]\ntime = 'CHECK'", "format.time is not answered yet: write one of the values that the lines above it name (config.toml, [format])"),
    ("[labels.never_by_silence]\nstatus = ['CHECK']", "labels.never_by_silence.status is not answered yet"),
    ("[watch.a]\nfolder = 'CHECK'", "watch.a.folder is not answered yet"),
    ("[labels]\nmaturity = 'CHECK'", "labels.maturity is not answered yet"),
    # impossible values
    *(
        (f"[format]\nencoding = '{name}'", f'format.encoding must be a text encoding such as "utf-8", "cp1252" or "utf-16", got "{name}"')
        for name in ("rot13", "base64", "hex", "zip", "idna", "punycode", "unicode_escape", "undefined", "utf-99")
    ),
    ("[alerts]\nper_day = 0", "alerts.per_day must be 1 or more, got 0 (config.toml, [alerts])"),
    ("[strategy]\nprevalence_gate_low = nan", "strategy.prevalence_gate_low must be"),
    ("[outlier]\ndetector = 'lof'", "outlier.detector must name a detector that ranks payments ('lof' is no detector: choose one of isolation_forest, hbos,"),
    ("[outlier]\ndetector = 'boosting'", "outlier.detector must name a detector that ranks payments ('boosting' needs labels: choose one of isolation_forest, hbos,"),
    ("[outlier]\ndetector = 'inne'", "outlier.detector must name a detector that ranks payments ('inne' gives no contributions that add up to its score: choose"),
    ("[strategy]\nmethod = 'best'", "strategy.method must be one of 'auto', 'outlier', 'blend' or"),
    ("[strategy]\noutlier_share = 1.5", "strategy.outlier_share must be 1 or less, got 1.5"),
    ("[costs]\nreview = 0.0", "costs.review must be more than 0, got 0.0"),
    ("[features]\nwindows = ['7d', '1d']", "features.windows must hold at least one window, ascending"),
    ("[features]\nwindows = ['1d', '1d']", "features.windows must hold at least one window, ascending"),
    ("[features]\nwindows = []", "features.windows must hold at least one window"),
    ("[features]\nwindows = ['1m']", "features.windows must be a duration from 1h to 366d"),
    ("[features]\nnight = [6, 0]", "features.night must be two hours from 0 to 23"),
    ("[features]\nnight = [6]", "features.night must be two hours from 0 to 23"),
    ("[features]\nnight = [0, 3, 6]", "features.night must be two hours from 0 to 23"),
    ("[schedule]\ntimezone = 'Mars/North'", "schedule.timezone must be a time zone of the IANA list"),
    ("[schedule]\ntimezone = '../etc'", "schedule.timezone must be a time zone of the IANA list"),
    ("[schema]\ntimezone = 'Mars/North'", "schema.timezone must be a time zone of the IANA list"),
    ("[schedule]\nwindow = '7h'", "schedule.window must divide a day or be whole days"),
    ("[training]\nevery = '36h'", "training.every must be whole days"),
    ("[quality]\nwindow = '36h'", "quality.window must be whole days"),
    ("[training]\nholdout = '365d'", "training.holdout must be shorter than training.span (180d), got"),
    ("[retention]\naudit = '90d'", 'retention.audit must be "0s" (for ever) or at least 365d'),
    ("[retention]\nmessages = '1d'", 'retention.messages must be "0s" (for ever) or at least 7d'),
    ("[schema]\nbase_currency = 'euro'", "schema.base_currency must be three capital letters"),
    ("[monitor]\nname = ''", "monitor.name must be printable text"),
    # columns
    (
        "[schema]\nhash = ['card_id']\n[labels.never_by_silence]\ncard_id = ['x']",
        "labels.never_by_silence must not name a field of schema.hash",
    ),
    ("[schema]\nentities = ['card no']", "schema.entities must be a valid name of a database column"),
    ("[schema]\nnumeric = ['größe']", "no digit first, 63 at most): give it one under [schema.columns], and use that one here"),
    ("[schema]\ntrusted = ['nosuch']", 'schema.trusted must name fields of schema.entities, schema.numeric or schema.categorical, got "nosuch"'),
    ("[schema]\nplain_card_numbers = ['nosuch']", "schema.plain_card_numbers must name fields of schema.entities, schema.numeric or"),
    ("[schema]\nentities = ['customer_id']\ncolumns = {'PIN' = 'customer_id'}", 'schema.columns."PIN" must not name a verification code'),
    ("[schema]\nentities = ['a', 'a']", "schema.entities must name each value once"),
    ("[schema]\nentities = ['a', 'A']", "must not use a column that schema.entities already uses"),
    ("[schema]\nentities = ['amount']", "must not use a column that schema.amount already uses, got"),
    ("[schema]\nnumeric = ['status']", "must not use a column that schema.numeric already uses"),
    ("[schema]\nnumeric = ['batch_id']", 'must not have the name of a column of fraudwatch or of the database; give it another one under [schema.columns]'),
    ("[schema]\namount = 'value'\nnumeric = ['amount']", "must not have the name of a column of fraudwatch or of the database"),
    ("[schema]\nhash = ['email']", "schema.hash must name fields of schema.entities or schema.categorical"),
    ("[labels]\nsource = 'known_at'", "must not use a column that labels.known_at already uses"),
    ("[labels]\nnever_by_silence = {result = ['no']}", "labels.never_by_silence must name fields of schema"),
    ("[labels]\nnever_by_silence = {status = []}", "labels.never_by_silence must hold at least 1"),
    # keys that need each other
    ("[schema]\nrates = 'r.csv'", "schema.currency must name the currency column when schema.rates is set"),
    ("[schema]\nkind = ''\noriginal_id = 'o'", "schema.kind must name the column that distinguishes refunds"),
    ("[schema]\nrefund_kinds = []", "schema.refund_kinds must name at least one kind when schema"),
    ("[strategy]\nmin_positives_blend = 400", "strategy.min_positives_blend must be less than strategy.min_positives_classifier (300), got 400"),
    ("[strategy]\nprevalence_gate_low = 0.001", "strategy.prevalence_gate_low must be less than strategy.prevalence_gate_high (0.00012), got 0.001"),
    ("[training]\nmin_rows = 300000", "training.min_rows must not be more than training.max_rows (100000)"),
    ("[source.core]\nurl_env = 'X'", "source.core.query is missing; set it (config.toml, [source.core])"),
    ("[source.core]\nquery = 'x'", "source.core must have exactly one of url, url_env and url_file"),
    ("[source.Core]\nquery = 'x'\nurl_env = 'X'", "source.Core must be named with lower-case letters"),
    ("[source.core]\nquery = 'x'\nurl_env = 'a b'", "source.core.url_env must be the name of an environment"),
    ("[labels]\ndispute_types = {other = ['13.1', '10.4']}\nfraud_reasons = ['10.4']", "labels.dispute_types.other must not hold a reason of labels.fraud_reasons"),
    ("[labels]\nmaturity_by = {method = {card = '9d'}}", "labels.maturity_by must name fields of schema.categorical or schema.entities"),
    ("[costs]\nexposure = 'payout'", "costs.exposure must name a field of schema.numeric"),
    ("[retention]\naudit = '30d'", 'retention.audit must be "0s" (for ever) or at least 365d'),
    ("[limit.a]\nbasis_points = 5\nby = 'payment'\npayments = 'previous'", 'limit.a.by must be "report" with payments = "previous"'),
    ("[web]\nsession_idle = '13h'", 'web.session_idle must not be longer than web.session_absolute (12h), got "13h"'),
    ("[web]\nhost = '0.0.0.0'", "web.public_url must say how people reach the console when web.host is 0.0.0.0"),
    ("[web]\npublic_url = 'https://u:p@x/'", 'web.public_url must be a URL without a path such as "https://fraud.example.com"'),
    ("[web]\ntrusted_proxies = ['10.0.0.1/24']", 'web.trusted_proxies must be addresses or networks such as "10.0.0.7"'),
    ("[web]\nfour_eyes = ['undo', 'all']", "web.four_eyes must be one of"),
    ("[oidc]\npasswords = false", "oidc.passwords must be true without oidc.issuer, or nobody could log in"),
    ("[oidc]\nissuer = 'http://login.example.com'", 'oidc.issuer must be an https URL such as "https://login.example.com/realms/fraud"'),
    (OIDC.replace("client_id = 'f'", ""), "oidc.client_id must name this program as the provider knows it"),
    (OIDC + "\nclient_secret_env = 'X'", "oidc.client_secret_file must be set, or oidc.client_secret_env, and not both"),
    (OIDC.replace("{fraud = 'reviewer'}", "{}"), "oidc.roles must give a role to at least one group"),
    (OIDC.replace("reviewer", "root"), "oidc.roles must be one of"),
    (OIDC, "web.public_url must be set when oidc.issuer is: the provider sends people back there"),
    # challengers
    ("[shadow.live]\nstrategy.min_positives_blend = 3", 'shadow.live must be named differently from "live"'),
    ("[shadow.Bold]\nstrategy.min_positives_blend = 3", "shadow.Bold must be named differently"),
    ("[shadow.a.strategy]\nmethd = 3", "shadow.a.strategy.methd is not a key, did you mean shadow.a.strategy.method? (config"),
    ("[shadow.a.schedule]\ntick = '5m'", "shadow.a.schedule is not a key; keys are features, training, outlier, strategy"),
    ("[shadow.a.strategy]\nmin_positives_blend = 300", "shadow.a.strategy.min_positives_blend must be less than strategy.min_positives_classifier (300), got 300"),
    ("[shadow.a.strategy]\nmin_positives_blend = 'x'", "shadow.a.strategy.min_positives_blend must be a whole number"),
    ("shadow.a = 3", "shadow.a must be a table, got 3"),
    ("[shadow.a.costs]\nfee = 5.0", "shadow.a.costs.fee must not differ from [costs]: payments have it, not policies, got 5.0"),
    # not TOML
    ("[alerts\nper_day = 5", "is not valid TOML"),
    ("[alerts]\nper_day = 5\nper_day = 6", "is not valid TOML"),
]  # fmt: skip
REFUSED += [
    (
        "[limit.visa]\nbasis_point = 90",
        "limit.visa.basis_point is not a key, did you mean limit.visa.basis_points?",
    ),
    ("[watch.in]\nfolders = 'in'", "watch.in.folders is not a key, did you mean watch.in.folder?"),
    (
        "[limit]\nbasis_points = 90\nrate = 'fraud'",
        "limit.basis_points must be a table, got 90: write the keys of [limit] below [limit.NAME], with a name of your choice (",
    ),
    ("[shadow]\nalerts.per_day = 3", "shadow.alerts.per_day is not a key: write [shadow.NAME] above it"),
    (
        "[limit.visa]\nbasis_points = 90\nonly = {channel = 'web'}",
        'limit.visa.only must be a list in square brackets, got "web": write channel = ["web"] (',
    ),
    (
        "[notify]\nurls = 'slack://s3cret'",
        "notify.urls must be a list in square brackets, got a value not shown here (",
    ),
    ("[notify]\nping_url = 'ftp://s3cret'", "or empty, got a value not shown here"),
]


@pytest.mark.parametrize(("toml", "sentence"), REFUSED)
def test_what_is_wrong_is_refused_in_one_sentence(in_tmp: Path, toml: str, sentence: str) -> None:
    (in_tmp / "config.toml").write_text(toml)
    with pytest.raises(ConfigError) as caught:
        load_config(None, {})
    assert sentence in str(caught.value)
    assert "config.toml" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["utf-8", "UTF-8-SIG", "utf-16", "cp1252", "latin-1", "shift_jis", "gb18030", "cp037"]
)
def test_text_encodings_are_accepted(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, f"[format]\nencoding = '{name}'").format.encoding == name


def test_fields_that_are_trusted_or_may_hold_card_numbers_have_any_role(tmp_path: Path) -> None:
    toml = "[schema]\ntransaction_id = 'id'\nentities = ['a']\nnumeric = ['n']\n"
    schema = load(tmp_path, toml + "trusted = ['a', 'n']\nplain_card_numbers = ['id', 'a']").schema_
    assert (schema.trusted, schema.plain_card_numbers) == (("a", "n"), ("id", "a"))


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(tmp_path / "no.toml", {})
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path, {})
    (tmp_path / "latin.toml").write_bytes(b'[monitor]\nname = "caf\xe9"')
    with pytest.raises(ConfigError, match="not UTF-8 at byte"):
        load_config(tmp_path / "latin.toml", {})


def test_a_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xef\xbb\xbf[alerts]\nper_day = 3")
    assert load_config(tmp_path / "config.toml", {}).alerts.per_day == 3


@pytest.mark.parametrize(
    ("variable", "value", "section", "attribute", "expected"),
    [
        ("FRAUDWATCH_ALERTS__PER_DAY", "20", "alerts", "per_day", 20),
        ("FRAUDWATCH_STRATEGY__OUTLIER_SHARE", "0.25", "strategy", "outlier_share", 0.25),
        ("FRAUDWATCH_COSTS__REVIEW", "3", "costs", "review", 3.0),  # a whole number is a number
        ("FRAUDWATCH_LABELS__MATURITY", "7d", "labels", "maturity", 7 * DAY),
        ("FRAUDWATCH_FEATURES__WINDOWS", '["2h"]', "features", "windows", (2 * HOUR,)),
        ("FRAUDWATCH_FEATURES__NIGHT", "[1, 5]", "features", "night", (1, 5)),
        ("FRAUDWATCH_MONITOR__NAME", "7", "monitor", "name", "7"),  # text stays text
        ("FRAUDWATCH_STRATEGY__METHOD", "outlier", "strategy", "method", "outlier"),
        ("FRAUDWATCH_STORAGE__SCHEMA", "team_a", "storage", "schema_", "team_a"),
        ("FRAUDWATCH_SCHEMA__ENTITIES", '["customer_id"]', "schema_", "entities", ("customer_id",)),
        ("FRAUDWATCH_SCHEMA__KIND", "", "schema_", "kind", ""),
        (
            "FRAUDWATCH_LABELS__NEVER_BY_SILENCE",
            '{"status": ["x"]}',
            "labels",
            "never_by_silence",
            {"status": ("x",)},
        ),
    ],
)
def test_the_environment_overrides_any_key(
    tmp_path: Path, variable: str, value: str, section: str, attribute: str, expected: object
) -> None:
    config = load(tmp_path, "[alerts]\nper_day = 5", **{variable: value})
    assert getattr(getattr(config, section), attribute) == expected


def test_every_key_has_a_variable(tmp_path: Path) -> None:
    """Each key's default, written as an override, is understood and changes nothing."""
    for part in re.split(r"\n(?=\[)", Config().public_text()):
        section = part[1 : part.index("]")]
        for key, written in re.findall(r"^(\w+) = (.*)$", part, re.M):
            value = written.strip('"') if not written.startswith(("[", "{")) else written
            if written.startswith("{") and written != "{}":  # as TOML: {name = [...]}
                value = json.dumps(tomllib.loads(f"table = {written}")["table"])
            config = load(tmp_path, "", **{variable_of(f"{section}.{key}"): value})
            assert config.public_text() == Config().public_text()


def test_a_source_can_come_from_the_environment_alone(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "",
        FRAUDWATCH_SOURCE__CORE_BANK__QUERY="SELECT 1",
        FRAUDWATCH_SOURCE__CORE_BANK__URL_ENV="CORE_URL",
        CORE_URL=URL,
    )
    assert config.source["core_bank"].query == "SELECT 1"
    assert config.source_url("core_bank") == URL


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"FRAUDWATCH_ALERTS__PERDAY": "1"}, "did you mean FRAUDWATCH_ALERTS__PER_DAY? (environment)"),
        ({"FRAUDWATCH_STORAGE_URL": URL}, "did you mean FRAUDWATCH_STORAGE__URL?"),
        ({"FRAUDWATCH__HASH_KEY": PASSWORD}, "did you mean FRAUDWATCH_HASH_KEY?"),
        ({"FRAUDWATCH_ALERTS__PER_DAY": "0"}, "got 0 (environment, FRAUDWATCH_ALERTS__PER_DAY)"),
        ({"FRAUDWATCH_ALERTS__PER_DAY": "many"}, 'must be a whole number, got "many"'),
        ({"FRAUDWATCH_SCHEMA__ENTITIES": "a,b"}, "FRAUDWATCH_SCHEMA__ENTITIES must be JSON such as"),
        ({"FRAUDWATCH_SOURCE__CORE__QERY": "x"}, "FRAUDWATCH_SOURCE__CORE__QERY overrides no key"),
        ({"FRAUDWATCH_CHOOSE__STRATEGY": "auto"}, "no longer overrides a key: [choose] is [strategy] now"),
        ({"FRAUDWATCH_WATCH__INBOX__SETTLE": "1s"}, "no longer overrides a key: it is settle_time now"),
    ],
)
def test_a_variable_that_is_wrong_is_refused(tmp_path: Path, environ: dict[str, str], sentence: str) -> None:
    message = refusal(tmp_path, "", **environ)
    assert sentence in message
    assert PASSWORD not in message


def test_no_key_is_both_known_and_gone() -> None:
    known = {*known_keys(), *(key.partition(".")[0] for key in known_keys())}
    assert set(GONE) & known == set()


def test_variables_of_others_are_left_alone(tmp_path: Path) -> None:
    load(tmp_path, "", FRAUDWATCH_TEST_POSTGRES="x", FRAUDWATCH_HASH_KEY="k", FRAUD__WATCH="x", PATH="/bin")


def test_the_variable_wins_over_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, "[alerts]\nper_day = 5", FRAUDWATCH_ALERTS__PER_DAY="9").alerts.per_day == 9


def test_a_schema_of_ones_own_is_not_held_to_the_shipped_columns(tmp_path: Path) -> None:
    toml = '[schema]\nkind = ""\nentities = ["terminal"]\ncategorical = ["result"]'
    config = load(tmp_path, toml)
    assert config.schema_.original_id == ""
    assert config.labels.never_by_silence == {}


def test_a_config_cannot_be_changed_and_can_be_built_in_code() -> None:
    config = Config.model_validate({"alerts": {"per_day": 5}, "labels": {"maturity": "7d"}})
    assert (config.alerts.per_day, config.labels.maturity) == (5, 7 * DAY)
    with pytest.raises(ValueError, match="frozen"):
        config.alerts.per_day = 6  # type: ignore[misc]


def test_the_hash_changes_with_what_it_covers_and_only_then() -> None:
    plain, other = Config(), Config.model_validate({"training": {"threads": 2}})
    assert plain.hash() == Config().hash()
    assert plain.hash() != other.hash()
    assert plain.hash("training") != other.hash("training")
    assert plain.hash("strategy", "labels") == other.hash("strategy", "labels")


def test_the_public_text_reads_back_as_the_same_config(tmp_path: Path) -> None:
    toml = (
        '[schema]\nentities = ["a"]\ncategorical = ["b"]\n[labels]\nnever_by_silence = {b = ["x\\"y", "é"]}'
    )
    config = load(tmp_path, toml)
    again = load(tmp_path, config.public_text())
    assert again.model_dump() == config.model_dump()


def everything_shown(config: Config) -> str:
    return "".join([repr(config), str(config), config.public_text(), str(config.model_dump(mode="json"))])


def test_secrets_show_nowhere(tmp_path: Path) -> None:
    toml = f'[storage]\nurl = "{URL}"\n[source.core]\nurl = "{URL}"\nquery = "SELECT 1"'
    config = load(tmp_path, toml, FRAUDWATCH_HASH_KEY=PASSWORD * 2)
    assert config.storage_url == URL
    assert config.source_url("core") == URL
    assert config.hash_key() == (PASSWORD * 2).encode()
    assert PASSWORD not in everything_shown(config)
    elsewhere = load(tmp_path, toml.replace(PASSWORD, "another"))
    assert elsewhere.hash() == config.hash()


@pytest.mark.parametrize(
    "toml",
    [
        f'[storage]\nurl = ["{URL}"]',
        f'[storage]\nurll = "{URL}"',
        f'[storage]\npassword = "{PASSWORD}"',
        f'[storage]\nurl = "{URL}"\nurl_file = "{PASSWORD}x',  # not TOML
        f'[source.core]\nurl = {{x = "{URL}"}}\nquery = "x"',
        f'[source.core]\nurl = "{URL}"\nurl_env = "CORE"\nquery = "x"',
        f'[source.core]\nurl_env = "{URL}"\nquery = "x"',
        f'[source.core]\nurl = "{URL}"',
        f'storage = "{URL}"',
        f'source = "{URL}"',
    ],
)
def test_refusals_do_not_repeat_secrets(tmp_path: Path, toml: str) -> None:
    assert PASSWORD not in refusal(tmp_path, toml)


def test_the_database_url_can_come_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text(URL + "\n")
    config = load(tmp_path, f'[storage]\nurl_file = "{secret}"')
    assert config.storage_url == URL
    assert PASSWORD not in everything_shown(config)


def test_a_url_in_the_environment_wins_over_a_file_named_in_the_config(tmp_path: Path) -> None:
    toml = '[storage]\nurl_file = "/nowhere"'
    assert load(tmp_path, toml, FRAUDWATCH_STORAGE__URL="sqlite:///b.db").storage_url == "sqlite:///b.db"
    secret = tmp_path / "url"
    secret.write_text("sqlite:///c.db")
    toml = '[storage]\nurl = "sqlite:///a.db"'
    assert load(tmp_path, toml, FRAUDWATCH_STORAGE__URL_FILE=str(secret)).storage_url == "sqlite:///c.db"


def test_two_urls_in_one_place_are_refused(tmp_path: Path) -> None:
    assert "must not be set together with storage.url" in refusal(
        tmp_path, '[storage]\nurl = "x"\nurl_file = "y"'
    )


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe\x00"])
def test_a_secret_file_that_holds_nothing_is_named(tmp_path: Path, content: bytes | None) -> None:
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_bytes(content)
    assert "storage.url_file names" in refusal(tmp_path, f'[storage]\nurl_file = "{secret}"')


def test_the_hash_key_comes_from_the_environment_or_a_file_and_is_asked_for_only_when_used(
    tmp_path: Path,
) -> None:
    toml = '[schema]\nhash = ["card_id"]'
    with pytest.raises(ConfigError, match=r"schema\.hash needs a key of 16 characters or more, got 0"):
        load(tmp_path, toml).hash_key()
    with pytest.raises(ConfigError, match="got 5"):
        load(tmp_path, toml, FRAUDWATCH_HASH_KEY="short").hash_key()
    secret = tmp_path / "key"
    secret.write_text("0123456789abcdef\n")
    toml += f'\nhash_key_file = "{secret}"'
    assert load(tmp_path, toml).hash_key() == b"0123456789abcdef"
    assert load(tmp_path, toml, FRAUDWATCH_HASH_KEY="f" * 16).hash_key() == b"f" * 16


def test_a_shared_database_needs_a_key_for_its_models(tmp_path: Path) -> None:
    shared = '[storage]\nurl = "postgresql://u@h/d"'
    assert load(tmp_path, "").model_keys() == ()
    new, old = "f" * 16, "e" * 20
    for written, keys in [
        (new, [new]),
        (f"{new},{old}", [new, old]),
        (f"{new}, {old},", [new, old]),
        ("correct horse, battery", ["correct horse, battery"]),  # a part is too short for a key
    ]:
        found = load(tmp_path, "", FRAUDWATCH_MODEL_KEY=written).model_keys()
        assert found == tuple(key.encode() for key in keys)
    with pytest.raises(ConfigError, match=r"FRAUDWATCH_MODEL_KEY or storage\.model_key_file"):
        load(tmp_path, shared).model_keys()
    with pytest.raises(ConfigError, match="16 characters or more, got 5"):
        load(tmp_path, "", FRAUDWATCH_MODEL_KEY="short").model_keys()
    secret = tmp_path / "model.key"
    secret.write_text("0123456789abcdef\n")
    config = load(tmp_path, f'{shared}\nmodel_key_file = "{secret}"')
    assert config.model_keys() == (b"0123456789abcdef",)
    secret.write_text(f"{new}\n{old}\n")
    assert config.model_keys() == (new.encode(), old.encode())
    assert "model.key" not in config.public_text()


def test_a_source_without_its_url_says_what_is_missing(tmp_path: Path) -> None:
    config = load(tmp_path, '[source.core]\nurl_env = "CORE_URL"\nquery = "x"')
    with pytest.raises(ConfigError, match="names CORE_URL, which is not set"):
        config.source_url("core")
    with pytest.raises(
        ConfigError,
        match=r"source\.bank is not configured: add \[source\.bank\], or use one of those in .*: core",
    ):
        config.source_url("bank")


def test_a_shadow_differs_from_live_in_the_keys_it_gives_and_in_no_other(tmp_path: Path) -> None:
    toml = '[strategy]\nmin_positives_blend = 7\n[shadow.cautious]\nstrategy.method = "outlier"\nalerts.per_day = 20\n'
    config = load(tmp_path, toml, FRAUDWATCH_SHADOW__CAUTIOUS__TRAINING__THREADS="2")
    own = config.for_challenger("cautious")
    assert (own.strategy.method, own.strategy.min_positives_blend) == ("outlier", 7)
    assert (own.alerts.per_day, own.training.threads, own.shadow) == (20, 2, {})
    assert config.for_policy("cautious") == own
    assert config.for_policy("live") == config
    assert own.hash("schema", "labels", "costs") == config.hash("schema", "labels", "costs")
    again = load(tmp_path, config.public_text())
    assert again.for_challenger("cautious").public_text() == own.public_text()
    assert again.public_text() == config.public_text()
