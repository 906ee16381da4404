"""URLs of servers: a malformed one is refused in one line that repeats no secret, and none is shown with one."""

from __future__ import annotations

import logging
import ssl
import traceback

import pytest

from writebehind import Settings, load_settings
from writebehind.celery.configuration import create_app
from writebehind.errors import ConfigurationError
from writebehind.mongodb.client import mongo_client
from writebehind.settings.urls import redacted
from writebehind.tallies.tallies import Tallies

PASSWORD = "pwSecr1"  # noqa: S105 - of a test
#: A secret where a character in it, or a wrong word beside it, changes what the URL means.
MALFORMED_REDIS = [
    "redis://:pwSecr1/x@h",
    "redis://:pwSecr1?x@h",
    "redis://:pwSecr1#x@h",
    "redis://:1?pwSecr1@h",
    "redis://u:1/pwSecr1@h",
    "redis://:pwSecr1@h:port",
    "redis://:pwSecr1@h:99999",
    "redis://:pwSecr1@h:0",
    "redis://:pwSecr1@[::1",
    "redis://:pwSecr1@h h",
    "redis://:pwSecr1@h/zero",
    "redis://:pwSecr1@h/0/1",
    "redis://:pwSecr1@h/-1",
    "redis://:pwSecr1@h/٣",
    "redis://:pwSecr1@h/0\n",
    "redis://:pwSecr1@h/1?db=2",
    "redis://:pwSecr1@h?db=x",
    "redis://:pwSecr1@h?db=",
    "redis://:pwSecr1@h?db",
    "redis://:pwSecr1@h?password=other",
    "redis://h?password=pwSecr1&password=pwSecr2",
    "redis://:pwSecr1@h?passwrd=pwSecr1",
    "redis://:pwSecr1@h?retry_on_timeout=true",
    "redis://:pwSecr1@h?decode_responses=true",
    "redis://:pwSecr1@h?ssl_cert_reqs=none",
    "rediss://:pwSecr1@h?ssl_cert_reqs=pwSecr1",
    "rediss://:pwSecr1@h?ssl_ca_certs=/pwSecr1",
    "redi://:pwSecr1@h",
    "redis:/:pwSecr1@h",
    "redis:pwSecr1@h",
    "pwSecr1@h",
    "unix://:pwSecr1@",
    "unix://:pwSecr1@host/run/redis.sock",
    "redis+cluster://:pwSecr1@",
    "redis+cluster://:pwSecr1@h,",
    "redis+cluster://:pwSecr1@h,i:port",
    "redis+cluster://:pwSecr1@h,:pwSecr1@i",
    "redis+cluster://:pwSecr1@h,i/1",
    "redis+cluster://:pwSecr1@h?db=1",
    "redis+cluster://:pwSecr1@h?ssl_cert_reqs=none",
    "redis+cluster://:pwSecr1@h?sentinel_password=pwSecr1",
    "rediss+cluster://:pwSecr1@h?ssl_ca_certs=/pwSecr1",
    "redis+sentinel://:pwSecr1@h,i",
    "redis+sentinel://:pwSecr1@h,i/",
    "redis+sentinel://:pwSecr1@h,i/main/x",
    "redis+sentinel://:pwSecr1@h/main/0?db=0",
    "redis+sentinel://:pwSecr1@h/main/0/1",
    "redis+sentinels://:pwSecr1@h/main",
    "a=redis://:pwSecr1@h;b=redis://:pwSecr1/x@i",
    "a=redis://:pwSecr1@h;redis://:pwSecr1@i",
    "a=redis://:pwSecr1@h;a=redis://:pwSecr1@i",
    "a=redis://:pwSecr1@h;b=redis://:pwSecr2@h",
    "a=redis://:pwSecr1@h;b=",
    "a=redis://:pwSecr1@h;",
    "a b=redis://:pwSecr1@h",
    "a=redis+cluster://:pwSecr1@h;b=redis://h",
    "a=redis://:pw;Secr1@h;b=redis://i",
    "pwSecr1=h",
]
MALFORMED_MONGODB = [
    "mongodb://u:pwSecr1/x@h/",
    "mongodb://u:pwSecr1?x@h/",
    "mongodb://u:pwSecr1#x@h/",
    "mongodb://u:1/pwSecr1@h/",
    "mongodb://u:pwSecr1:x@h/",
    "mongodb://u:pwSecr1@x@h/",
    "mongodb://u:pwSecr1%zz@h/",
    "mongodb://:pwSecr1@h/",
    "mongodb://u:pwSecr1@h:port/",
    "mongodb://u:pwSecr1@h:0/",
    "mongodb://u:pwSecr1@/",
    "mongodb://u:pwSecr1@h,/",
    "mongodb://u:pwSecr1@[::1/",
    "mongodb://u:pwSecr1@h/\n",
    "mongodb://u:pwSecr1@h/?retryWrite=true",
    "mongodb://u:pwSecr1@h/?w=majority&w=1",
    "mongodb://u:pwSecr1@h/?maxPoolSize=pwSecr1",
    "mongodb://u:pwSecr1@h/?proxyPassword",
    "mongodb://u:pwSecr1@h,i/?directConnection=true",
    "mongodb+srv://u:pwSecr1@h:27017/",
    "mongodb+srv://u:pwSecr1@h,i/",
    "mongodb+srv://u:pwSecr1/x@h/",
    "mongo://u:pwSecr1@h/",
    "pwSecr1@h",
]
MALFORMED_BROKERS = [
    *(one for one in MALFORMED_REDIS if not one.startswith(("redi://", "redis+sentinels://"))),
    "amqp://u:pwSecr1/x@h",
    "amqp://u:pwSecr1@h:port",
    "redis://h;redis://:pwSecr1/x@h",
    "amqp://u:pwSecr1#@h//",
    "amqps://u:pwSecr1@h//?ssl_ca_certs=/no/such/file",
    "amqps://u:pwSecr1@h//?ssl_cert_reqs=none",
    "amqp://u:pwSecr1@h//?ssl_ca_certs=/etc/hosts",
    "amqp://h;amqps://u:pwSecr1@i",
    "amqps://h;amqps://u:pwSecr1@i//?ssl_ca_certs=/etc/hosts",
]
#: Of the right form, but nothing that Celery can use.
UNUSABLE_BROKERS = [
    "http://u:pwSecr1@h",
    "qedis://:pwSecr1@h/0",
    "sqs://u:pwSecr1@",
    "amqp://u@h?password=pwSecr1",
]


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        *(("REDIS_URL", one) for one in MALFORMED_REDIS),
        *(("MONGODB_URL", one) for one in MALFORMED_MONGODB),
        *(("BROKER_URL", one) for one in MALFORMED_BROKERS),
    ],
)
def test_a_malformed_url_is_refused_without_its_secret(monkeypatch, variable, url):
    """One line names the setting and says what to do; neither it nor what caused it repeats the secret."""
    monkeypatch.setenv(variable, url)
    with pytest.raises(ConfigurationError) as refusal:
        load_settings()

    assert str(refusal.value).startswith(variable)
    assert 1 == len(str(refusal.value).splitlines())
    assert PASSWORD not in "".join(traceback.format_exception(refusal.value))


@pytest.mark.parametrize("url", UNUSABLE_BROKERS)
def test_a_broker_without_a_transport_is_refused_without_its_secret(url):
    """What Celery raises for a broker that it cannot use becomes one line."""
    with pytest.raises(
        ConfigurationError, match=r"^BROKER_URL: Celery cannot use it: write it as redis://"
    ) as refusal:
        create_app(load_settings(broker_url=url))

    assert PASSWORD not in "".join(traceback.format_exception(refusal.value))


def test_what_only_the_driver_can_refuse_is_one_line(tmp_path):
    """A certificate that is none is found when the client is made: one line, without the password."""
    (tmp_path / "no.pem").write_text("no certificate")
    settings = load_settings(mongodb_url=f"mongodb://u:pwSecr1@h/?tls=true&tlsCAFile={tmp_path}/no.pem")
    with pytest.raises(ConfigurationError, match=r"^MONGODB_URL: the driver refuses it") as refusal:
        mongo_client(settings.mongodb_url, settings.mongodb_timeout_ms, Tallies())

    assert 1 == len(str(refusal.value).splitlines())
    assert PASSWORD not in "".join(traceback.format_exception(refusal.value))


@pytest.mark.parametrize(
    ("url", "broker"),
    [
        ("redis://h", "redis://h/0"),
        ("redis:///1", "redis:///1"),
        ("redis://u:p%2Fw@h:1/3", "redis://u:p%2Fw@h:1/3"),
        ("redis://:p@ss;word@h/3", "redis://:p%40ss%3Bword@h/3"),
        ("redis://[::1]:6380/3", "redis://[::1]:6380/3"),
        ("redis://h/3?password=p%2Fw", "redis://:p%2Fw@h/3"),
        ("redis://h?db=4&username=u&password=p&client_name=c", "redis://u:p@h/4"),
        ("rediss://:p@h/1?ssl_cert_reqs=none", "rediss://:p@h/1?ssl_cert_reqs=none"),
        ("a=redis://:p%2Fw@h:1/3;b=redis://i", "redis://:p%2Fw@h:1/3"),
        ("unix:///run/redis.sock?db=2", "redis+socket:///run/redis.sock?virtual_host=2"),
        ("unix://:p%2F@/run/redis.sock", "redis+socket://:p%2F@/run/redis.sock?virtual_host=0"),
    ],
)
def test_celery_is_told_the_same_server(url, broker):
    """What a URL of Redis says in its options means the same to Celery, which knows other options."""
    settings = load_settings(redis_url=url)
    assert broker == settings.broker
    with create_app(settings).connection_for_write() as connection:
        assert connection.get_transport_cls().driver_name == "redis"


def test_celery_is_told_how_to_check_rabbitmq(tmp_path):
    """Its certificate has to be the host's; files that a URL names are options of py-amqp, and all else stays."""
    ca = tmp_path / "ca.pem"
    ca.touch()
    checked = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}

    for url, broker, options in (
        ("amqps://u:p%2Fw@h//", "amqps://u:p%2Fw@h//", checked),
        (f"amqps://h/v?heartbeat=9&ssl_ca_certs={ca}", "amqps://h/v?heartbeat=9", checked | {"ca_certs": str(ca)}),
        ("amqp://h//?heartbeat=9", "amqp://h//?heartbeat=9", None),
    ):
        app = create_app(load_settings(broker_url=url))
        assert (broker, options) == (app.conf.broker_url, app.conf.broker_use_ssl)


#: A file that there is, in the place of certificates.
CERTIFICATES = FILE = __file__


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("amqp://a;amqps://b", "the scheme of the first"),
        ("amqps://a;amqp://b", "the scheme of the first"),
        ("redis://a;amqp://b", "the scheme of the first"),
        ("redis://a;rediss://b", "the scheme of the first"),
        (f"amqps://a;amqps://b//?ssl_ca_certs={CERTIFICATES}", "the ssl_ options of the first"),
        (f"rediss://a?ssl_ca_certs={CERTIFICATES};rediss://b", "the ssl_ options of the first"),
        ("rediss://a?ssl_cert_reqs=none;rediss://b?ssl_cert_reqs=required", "the ssl_ options of the first"),
    ],
)
def test_brokers_that_celery_could_not_tell_apart_are_refused(url, fault):
    """It takes one set of options for TLS and transport: those of others than the first would be dropped."""
    with pytest.raises(ConfigurationError, match=f"^BROKER_URL: .* {fault}"):
        load_settings(broker_url=url)


@pytest.mark.parametrize(
    "url",
    [
        "amqp://a;pyamqp://b",
        f"amqps://a//?heartbeat=9&ssl_ca_certs={CERTIFICATES};amqps://b?ssl_ca_certs={CERTIFICATES}",
        f"amqps://a?ssl_ca_certs={FILE}&ssl_certfile={FILE};amqps://b?ssl_certfile={FILE}&ssl_ca_certs={FILE}",
        "redis+sentinel://[::1]:1,[::2]:2/service/0;redis+sentinel://h,i/service/0",
        "redis+sentinel://:p@h,i/service/1",
    ],
)
def test_brokers_that_differ_in_nothing_but_their_place_are_taken(url):
    """In whatever order their options stand."""
    assert url == load_settings(broker_url=url).broker_url


@pytest.mark.parametrize(
    "url",
    [
        "redis://a;redis://b",
        "redis://a/0;redis://a/1",
        "unix:///run/a.sock;unix:///run/b.sock",
        "rediss://a?ssl_cert_reqs=none&ssl_check_hostname=false;rediss://b?ssl_check_hostname=false&ssl_cert_reqs=none",
        "redis+sentinel://h/one/0;redis+sentinel://h/other/0",
        "redis+sentinel://h/service/0;redis+sentinel://h/service/1",
    ],
)
def test_servers_that_share_no_messages_are_no_broker(url):
    """After the first was away, workers would consume from the second, and others publish to the first."""
    with pytest.raises(ConfigurationError, match=r"^BROKER_URL names several Redis servers, which do not share"):
        load_settings(broker_url=url)


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://h",
        "mongodb://u:p%2Fw@h:1,i:2/db?replicaSet=rs0&readPreference=secondary&w=majority",
        "mongodb://[::1]:27017/",
        "mongodb://%2Frun%2Fmongodb.sock/",
        "mongodb+srv://u:p@cluster.example.net/?retryWrites=true&srvMaxHosts=2",
        "mongodb://u:p@h?ssl=true",
    ],
)
def test_urls_of_mongodb_that_are_taken(url):
    """What the driver takes is taken, and no host is looked up for it."""
    assert url == load_settings(mongodb_url=url).mongodb_url


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://:pwSecr1@h:1/0", "redis://:***@h:1/0"),
        ("redis://ada:pwSecr1@h", "redis://ada:***@h"),
        ("redis://pwSecr1@h", "redis://***@h"),
        ("redis://:a@pwSecr1@h", "redis://:***@h"),
        ("redis://:pwSecr1/x@h", "redis://:***@h"),
        ("redis://:a/b?c#pwSecr1@h", "redis://:***@h"),
        ("redis://h/0?password=pwSecr1", "redis://h/0?password=***"),
        ("redis://h/0?db=1&ssl_password=pwSecr1", "redis://h/0?db=1&ssl_password=***"),
        ("redis://h/0?pwSecr1", "redis://h/0?***"),
        ("mongodb://u:pwSecr1@h/?replicaSet=rs0", "mongodb://u:***@h/?replicaSet=rs0"),
        ("mongodb://h/?authMechanismProperties=A:pwSecr1", "mongodb://h/?authMechanismProperties=***"),
        ("no answer from redis://:pwSecr1@h:1, or http://h", "no answer from redis://:***@h:1, or http://h"),
        ("amqp://a:pwSecr1@h;amqp://b:pwSecr1@i", "amqp://a:***@i"),
        ("a=redis://u:pwSecr1@h:1/0;b=redis://i/1", "a=redis://u:***@h:1/0;b=redis://i/1"),
        (
            "a=redis://h;b-2=rediss://:pwSecr1@i?ssl_password=pwSecr1",
            "a=redis://h;b-2=rediss://:***@i?ssl_password=***",
        ),
        ("a=redis://u:pwSecr1;b=redis://:pwSecr1/x@h", "a=redis://u:***;b=redis://:***@h"),
        ("a=redis://:pw;Secr1@h;b=redis://h", "a=redis://:***@h;b=redis://h"),
        ("no URL at all", "no URL at all"),
        (f"KeyError: 'wb_0123456789ab_{'pwSecr1-_' * 5}'", "KeyError: 'wb_0123456789ab_***'"),
        ("http://h/wb_0123456789ab_pwSecr1?a=wb_0123456789ab_pw", "http://h/wb_0123456789ab_***?a=***"),
        ("wb_api_keys of the key wb_0123456789ab", "wb_api_keys of the key wb_0123456789ab"),
    ],
)
def test_a_url_is_shown_without_secrets(text, shown):
    """Passwords and values of unknown options are masked wherever in a URL they stand."""
    assert shown == redacted(text)


def test_settings_are_shown_without_secrets(caplog):
    """Neither the settings' text, nor what is raised for wrong ones, has a URL in it."""
    urls = {
        "redis_url": "redis://:pwSecr1@h",
        "mongodb_url": "mongodb://u:pwSecr1@h/",
        "broker_url": "amqp://u:pwSecr1@h",
    }
    with caplog.at_level(logging.INFO):
        logging.getLogger(__name__).info("%r %s", load_settings(**urls), load_settings(**urls))
    with pytest.raises(ValueError) as refusal:
        Settings(**urls, port="none")

    assert PASSWORD not in caplog.text
    assert PASSWORD not in "".join(traceback.format_exception(refusal.value))
