package listen

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

// version2 builds a header of version 2 by hand.
func version2(command, family byte, rest ...[]byte) string {
	body := bytes.Join(rest, nil)
	head := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), command, family)
	return string(append(binary.BigEndian.AppendUint16(head, uint16(len(body))), body...))
}

func addresses(source, destination string, sourcePort, destinationPort uint16) []byte {
	b := append(netip.MustParseAddr(source).AsSlice(), netip.MustParseAddr(destination).AsSlice()...)
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, sourcePort), destinationPort)
}

func vector(kind byte, value string) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value))), value...)
}

// summed replaces the four zeros at the end of a header by its checksum.
func summed(header string) string {
	sum := crc32.Checksum([]byte(header), crc32.MakeTable(crc32.Castagnoli))
	return header[:len(header)-4] + string(binary.BigEndian.AppendUint32(nil, sum))
}

const (
	long6 = "fdee:fdee:fdee:fdee:fdee:fdee:fdee:fdee"

	tcp4, udp4, tcp6, unix1 = 0x11, 0x12, 0x21, 0x31
	local, proxy            = 0x20, 0x21
)

var v4 = addresses("192.0.2.7", "198.51.100.1", 5678, 443)

// headers are what trusted peers may send, with what is made of them: a client, "the peer" itself, or an error.
var headers = []struct{ name, header, want string }{
	{"v1 IPv4", "PROXY TCP4 192.0.2.7 198.51.100.1 5678 443\r\n", "192.0.2.7:5678"},
	{"v1 IPv6", "PROXY TCP6 2001:db8::7 2001:db8::1 5678 443\r\n", "[2001:db8::7]:5678"},
	{"v1 IPv4 in IPv6", "PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 5678 443\r\n", "192.0.2.7:5678"},
	{"v1 longest", "PROXY TCP6 " + long6 + " " + long6 + " 65535 65535\r\n", "[" + long6 + "]:65535"},
	{"v1 UNKNOWN", "PROXY UNKNOWN\r\n", "the peer"},
	{"v1 UNKNOWN, longest", "PROXY UNKNOWN " + strings.Repeat("ffff:", 7) + "ffff " + strings.Repeat("ffff:", 7) + "ffff 65535 65535\r\n", "the peer"},
	{"v2 IPv4", version2(proxy, tcp4, v4), "192.0.2.7:5678"},
	{"v2 IPv6", version2(proxy, tcp6, addresses("2001:db8::7", "2001:db8::1", 5678, 443)), "[2001:db8::7]:5678"},
	{"v2 IPv4 in IPv6", version2(proxy, tcp6, addresses("::ffff:192.0.2.7", "::ffff:198.51.100.1", 1, 2)), "192.0.2.7:1"},
	{"v2 with vectors", version2(proxy, tcp4, v4, vector(0x04, "padding"), vector(0xea, "vpce-1"), vector(0x02, "")), "192.0.2.7:5678"},
	{"v2 with a checksum", summed(version2(proxy, tcp4, v4, vector(0x03, "\x00\x00\x00\x00"))), "192.0.2.7:5678"},
	{"v2 largest", version2(proxy, tcp4, v4, vector(0x04, strings.Repeat("x", maxRest2-12-3))), "192.0.2.7:5678"},
	{"v2 LOCAL", version2(local, 0), "the peer"},
	{"v2 LOCAL with addresses", version2(local, tcp4, v4), "the peer"},
	{"v2 LOCAL with vectors", version2(local, 0, vector(0x04, "padding")), "the peer"},

	{"a TLS handshake", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abc", "missing"},
	{"HTTP", "GET / HTTP/1.1\r\n\r\n", "missing"},
	{"HTTP PUT", "PUT / HTTP/1.1\r\n\r\n", "missing"},
	{"v1 in lower case", "proxy TCP4 192.0.2.7 198.51.100.1 5678 443\r\n", "missing"},
	{"v1 after a space", " PROXY TCP4 192.0.2.7 198.51.100.1 5678 443\r\n", "missing"},
	{"v1 without a space", "PROXYTCP4 192.0.2.7 198.51.100.1 5678 443\r\n", "missing"},
	{"almost v2", "\r\n\r\n\x00\r\nQUIT\r", "missing"},
	{"an empty line", "\r\n\r\nGET / HTTP/1.1\r\n", "missing"},

	{"v1 too long", "PROXY UNKNOWN " + strings.Repeat("x", 200) + "\r\n", "malformed"},
	{"v1 one byte too long", "PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n", "malformed"},
	{"v1 for ever", "PROXY TCP4 " + strings.Repeat("1", 1000), "malformed"},
	{"v1 bare LF", "PROXY TCP4 192.0.2.7 198.51.100.1 5678 443\n", "malformed"},
	{"v1 UDP", "PROXY UDP4 192.0.2.7 198.51.100.1 5678 443\r\n", "malformed"},
	{"v1 one address", "PROXY TCP4 192.0.2.7 5678 443\r\n", "malformed"},
	{"v1 more than addresses", "PROXY TCP4 192.0.2.7 198.51.100.1 5678 443 1\r\n", "malformed"},
	{"v1 two spaces", "PROXY TCP4  192.0.2.7 198.51.100.1 5678 443\r\n", "malformed"},
	{"v1 families mixed", "PROXY TCP4 2001:db8::7 198.51.100.1 5678 443\r\n", "malformed"},
	{"v1 IPv4 called IPv6", "PROXY TCP6 192.0.2.7 198.51.100.1 5678 443\r\n", "malformed"},
	{"v1 zone", "PROXY TCP6 fe80::1%eth0 fe80::2 5678 443\r\n", "malformed"},
	{"v1 leading zero", "PROXY TCP4 192.0.02.7 198.51.100.1 5678 443\r\n", "malformed"},
	{"v1 port too large", "PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n", "malformed"},
	{"v1 port signed", "PROXY TCP4 192.0.2.7 198.51.100.1 +678 443\r\n", "malformed"},
	{"v1 host name", "PROXY TCP4 localhost 198.51.100.1 5678 443\r\n", "malformed"},
	{"v1 multicast", "PROXY TCP6 ff02::1 2001:db8::1 5678 443\r\n", "malformed"},
	{"v1 nobody", "PROXY TCP4 0.0.0.0 198.51.100.1 5678 443\r\n", "malformed"},
	{"v1 everybody", "PROXY TCP4 255.255.255.255 198.51.100.1 5678 443\r\n", "malformed"},
	{"v1 no command", "PROXY \r\nGET / HTTP/1.1\r\n", "malformed"},
	{"v1 two lines in one", "PROXY U\r\nPROXY TCP4 192.0.2.7 198.51.100.1 5678 443\r\n", "malformed"},
	{"v2 version 1", version2(0x11, tcp4, v4), "malformed"},
	{"v2 unknown command", version2(0x22, tcp4, v4), "malformed"},
	{"v2 unknown transport", version2(proxy, 0x13, v4), "malformed"},
	{"v2 UNSPEC", version2(proxy, 0), "malformed"},
	{"v2 UDP", version2(proxy, udp4, v4), "malformed"},
	{"v2 Unix", version2(proxy, unix1, bytes.Repeat([]byte("a"), 216)), "malformed"},
	{"v2 short addresses", version2(proxy, tcp4, v4[:11]), "malformed"},
	{"v2 too long", version2(proxy, tcp4, v4, make([]byte, maxRest2)), "malformed"},
	{"v2 nobody", version2(proxy, tcp4, addresses("0.0.0.0", "198.51.100.1", 1, 2)), "malformed"},
	{"v2 multicast", version2(proxy, tcp6, addresses("ff02::1", "2001:db8::1", 1, 2)), "malformed"},
	{"v2 cut vector", version2(proxy, tcp4, v4, []byte{0x04, 0}), "malformed"},
	{"v2 vector beyond the end", version2(proxy, tcp4, v4, []byte{0x04, 0, 9, 'x'}), "malformed"},
	{"v2 wrong checksum", version2(proxy, tcp4, v4, vector(0x03, "\x00\x00\x00\x01")), "malformed"},
	{"v2 short checksum", version2(proxy, tcp4, v4, vector(0x03, "\x00")), "malformed"},
}

func TestHeaders(t *testing.T) {
	const payload = "\x16\x03\x01 what the client said"
	for _, tt := range headers {
		for how, wrap := range map[string]func(io.Reader) io.Reader{
			"at once":      func(r io.Reader) io.Reader { return r },
			"byte by byte": iotest.OneByteReader,
			"data and EOF": iotest.DataErrReader,
		} {
			stream := strings.NewReader(tt.header + payload)
			client, err := readHeader(wrap(stream))
			got := client.String()
			switch {
			case errors.Is(err, errMissing):
				got = "missing"
			case err != nil:
				got = "malformed"
			case !client.IsValid():
				got = "the peer"
			}
			if got != tt.want {
				t.Errorf("%s, %s: got %s (%v), want %s", tt.name, how, got, err, tt.want)
			}
			if rest, _ := io.ReadAll(stream); err == nil && string(rest) != payload && how != "data and EOF" {
				t.Errorf("%s, %s: left %q for the client's side, want %q", tt.name, how, rest, payload)
			}
			if err != nil && client.IsValid() {
				t.Errorf("%s, %s: an error, and a client %v", tt.name, how, client)
			}
		}
	}
}

// A header that is too large is refused by what it says of itself, before it takes memory.
func TestLargeHeadersAreNotRead(t *testing.T) {
	stream := strings.NewReader(version2(proxy, tcp4, v4, make([]byte, 60_000)))
	if _, err := readHeader(stream); !errors.Is(err, errMalformed) || stream.Size()-int64(stream.Len()) != headLen2 {
		t.Errorf("got %v after %d bytes, want %v after %d", err, stream.Size()-int64(stream.Len()), errMalformed, headLen2)
	}
}

// A peer that leaves in the middle of a header is not one that sent none; one that leaves without a word is nobody's
// concern.
func TestCutHeaders(t *testing.T) {
	for _, header := range []string{headers[0].header, version2(proxy, tcp4, v4, vector(0x04, "padding"))} {
		for n := range len(header) {
			_, err := readHeader(strings.NewReader(header[:n]))
			if want := map[bool]string{true: "", false: ReasonMalformed}[n == 0]; err == nil || reason(err) != want {
				t.Errorf("%q: got %v, which counts as %q, want %q", header[:n], err, reason(err), want)
			}
		}
	}
}
