"""Which URLs are fetched and which addresses are public, in every notation that anybody has thought of."""

import ipaddress

import pytest

from agproxy.io.addresses import BadUrl, is_own_network, is_public, parse_target


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("http://example.com", "http://example.com/"),
        ("HTTPS://Example.COM./a/b.png?x=1&y=%20#part", "https://example.com/a/b.png?x=1&y=%20"),
        ("http://example.com:80/", "http://example.com/"),
        ("https://example.com:80/", "https://example.com:80/"),
        ("http://example.com:8080/x", "http://example.com:8080/x"),
        ("https://bücher.example/ü/é.png?q=ü", "https://xn--bcher-kva.example/%C3%BC/%C3%A9.png?q=%C3%BC"),
        ("http://a_b.example/[x]", "http://a_b.example/%5Bx%5D"),
        ("http://[2606:4700:0:0::1]:8443/", "http://[2606:4700::1]:8443/"),
        ("http://8.8.8.8/", "http://8.8.8.8/"),
        ("http://example.com?x", "http://example.com/?x"),
    ],
)
def test_a_url_is_made_anew_from_its_parts(url, normal):
    assert parse_target(url).url == normal
    assert parse_target(normal).url == normal


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1.",
        "2130706433",
        "0x7f000001",
        "0x7F.1",
        "0177.0.0.01",
        "127.1",
        "127.0.1",
        "017700000001",
        "１２７.0.0.1",  # full-width digits
        "127。0。0。1",  # ideographic full stops
        "①②⑦.⓪.⓪.①",
    ],
)
def test_an_address_is_read_in_every_notation_that_a_resolver_knows(host):
    assert parse_target(f"http://{host}/").host == "127.0.0.1"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.com/x", "only http and https"),
        ("file:///etc/passwd", "only http and https"),
        ("//example.com/x", "only http and https"),
        ("javascript:alert(1)", "only http and https"),
        ("http:///x", "no host"),
        ("http:example.com", "no host"),
        ("http://user@example.com/", "user names"),
        ("http://user:pass@example.com/", "user names"),
        ("http://@example.com/", "user names"),
        ("http://example.com\\@127.0.0.1/", "characters"),
        ("http://exam\tple.com/", "characters"),
        ("http://example.com/\r\nX: y", "characters"),
        ("http://example.com/a b", "characters"),
        ("http://example.com/\ud800", "characters"),
        (" http://example.com/", "characters"),
        ("http://example.com:99999/", "no URL"),
        ("http://[::1/", "no URL"),
        ("http://[fe80::1%25eth0]/", "no IPv6 address"),
        ("http://[v1.x]/", "no"),
        ("http://localhost/", "gateway itself"),
        ("http://LOCALHOST./", "gateway itself"),
        ("http://a.localhost/", "gateway itself"),
        ("http://127%2e0%2e0%2e1/", "no name"),
        ("http://a..b/", "no name"),
        ("http://example.com../", "no name"),
        ("http://-a.example/", "no name"),
        ("http://" + "a" * 64 + ".example/", "no name"),
        ("http://" + "a." * 130 + "example/", "no name"),
        ("http://" + "ü" * 300 + "/", "no name"),
        ("http://1.2.3.4.5/", "no IPv4 address"),
        ("http://256.1.1.1/", "no IPv4 address"),
        ("http://1.2.3.256/", "no IPv4 address"),
        ("http://4294967296/", "no IPv4 address"),
        ("http://08.1.1.1/", "no IPv4 address"),
        ("http://example.0x1/", "no IPv4 address"),
        ("http://example.com:0/", "port 0"),
        ("http://example.com:22/", "port 22"),
        ("http://example.com:25/", "port 25"),
        ("http://example.com:6379/", "port 6379"),
        ("http://example.com:6667/", "port 6667"),
        ("http://example.com/" + "x" * 9000, "longer than"),
    ],
)
def test_what_is_unusual_is_refused(url, why):
    with pytest.raises(BadUrl, match=why):
        parse_target(url)


PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "172.15.255.255",
    "172.32.0.1",
    "100.63.255.255",
    "223.255.255.255",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
    "2a00:1450::200:5efe:808:808",
]
NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.251",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:0:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001::1",
    "2001:0:808:808::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a00:1::",
    "2002:a9fe:a9fe::1",
    "2a00:1450::5efe:a00:1",
    "2a00:1450::200:5efe:7f00:1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_of_the_internet_are_public(address):
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_no_other_address_is_public_whatever_it_is_wrapped_in(address):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "172.20.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "::ffff:10.0.0.1"]
)
def test_private_addresses_are_ones_own_network(address):
    assert is_own_network(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "169.254.169.254",
        "fe80::1",
        "0.0.0.0",
        "224.0.0.1",
        "8.8.8.8",
        "fd00:ec2::254",
    ],
)
def test_loopback_link_local_and_the_clouds_own_addresses_are_nobodys_network(address):
    assert not is_own_network(ipaddress.ip_address(address))
