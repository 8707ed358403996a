package listen

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"os"

	"github.com/pires/go-proxyproto"
)

// Why a trusted peer's connection is dropped, for OnReject.
const (
	ReasonMissing   = "proxy_header_missing"   // it begins with something else
	ReasonMalformed = "proxy_header_malformed" // it begins like a header, and is none or names no client
	ReasonTimeout   = "proxy_header_timeout"   // the header did not arrive in time
)

var (
	errMissing   = errors.New("no PROXY protocol header")
	errMalformed = errors.New("malformed PROXY protocol header")
	// errSilent is a peer that left without a byte, as health checks do.
	errSilent = errors.New("closed without a byte")
)

// reason is what OnReject is told of an error of readHeader, or empty if that is nothing.
func reason(err error) string {
	switch {
	case errors.Is(err, errMissing):
		return ReasonMissing
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ReasonTimeout
	case errors.Is(err, errSilent), errors.Is(err, net.ErrClosed):
		return ""
	}
	return ReasonMalformed
}

// Sizes, from the specification's sections 2.1 and 2.2.
const (
	maxLine  = 107  // of version 1, with its CRLF
	headLen2 = 16   // of version 2, up to its length field
	maxRest2 = 4096 // of version 2 after that. 65,535 may be said; the largest in use, with a client certificate, has 2 KiB.
)

const signature1 = "PROXY "

var signature2 = []byte("\r\n\r\n\x00\r\nQUIT\n")

// readHeader reads one header and not a byte beyond it, so that the connection below can be used as it is, and returns
// the client that it names. The zero AddrPort means that the peer speaks for itself: LOCAL and UNKNOWN. An error means
// that the connection must be dropped.
func readHeader(r io.Reader) (netip.AddrPort, error) {
	header, err := cutHeader(r)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return parseHeader(header)
}

// cutHeader returns the bytes of the header.
func cutHeader(r io.Reader) ([]byte, error) {
	// The shortest header of all, "PROXY UNKNOWN\r\n", is longer than the signature of version 2.
	header := make([]byte, len(signature2), maxLine)
	for n := 0; n < len(header); {
		more, err := r.Read(header[n:])
		n += more
		switch {
		case !begins(header[:n]):
			return nil, errMissing
		case n == len(header):
		case err != nil && n == 0 && !errors.Is(err, os.ErrDeadlineExceeded):
			return nil, errSilent
		case err != nil:
			return nil, err
		}
	}
	if header[0] == signature2[0] {
		return cutVersion2(r, header)
	}
	return cutVersion1(r, header)
}

// begins reports whether a header may begin so.
func begins(b []byte) bool {
	one := min(len(b), len(signature1))
	return string(b[:one]) == signature1[:one] || bytes.HasPrefix(signature2, b)
}

// cutVersion1 reads up to the line's end, byte by byte: whatever follows belongs to the client.
func cutVersion1(r io.Reader, line []byte) ([]byte, error) {
	for {
		n := len(line)
		switch {
		case bytes.IndexByte(line, '\n') >= 0:
			return line, nil // in the first bytes already: parseHeader refuses it
		case n == maxLine:
			return nil, errMalformed
		}
		line = line[:n+1]
		if _, err := io.ReadFull(r, line[n:]); err != nil {
			return nil, err
		}
	}
}

func cutVersion2(r io.Reader, head []byte) ([]byte, error) {
	n := len(head)
	head = head[:headLen2]
	if _, err := io.ReadFull(r, head[n:]); err != nil {
		return nil, err
	}
	rest := int(binary.BigEndian.Uint16(head[headLen2-2:]))
	if rest > maxRest2 {
		return nil, errMalformed
	}
	header := append(make([]byte, 0, headLen2+rest), head...)[:headLen2+rest]
	_, err := io.ReadFull(r, header[headLen2:])
	return header, err
}

// parseHeader accepts the bytes of exactly one header. Only a client on TCP has an address that we can judge: Unix
// sockets and datagrams are refused.
func parseHeader(header []byte) (netip.AddrPort, error) {
	none := netip.AddrPort{}
	from := bytes.NewReader(header)
	buffered := bufio.NewReaderSize(from, len(header))
	h, err := proxyproto.Read(buffered)
	if err != nil || buffered.Buffered()+from.Len() > 0 {
		return none, errMalformed
	}
	if h.Command.IsLocal() {
		return none, nil
	}
	source, ok := h.SourceAddr.(*net.TCPAddr)
	if !ok {
		return none, errMalformed
	}
	client := netip.AddrPortFrom(source.AddrPort().Addr().Unmap(), uint16(source.Port))
	if a := client.Addr(); a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return none, errMalformed // no client has such an address
	}
	if h.Version == 2 && !soundExtras(header, h.TransportProtocol) {
		return none, errMalformed
	}
	return client, nil
}

// typeCRC32C is the checksum among a header's type-length-value vectors: specification, section 2.2.2.
const typeCRC32C = 0x03

// soundExtras reports whether what follows the addresses is made of whole vectors and, where one is a checksum, whether
// it is right: a receiver that knows it must drop the connection otherwise.
func soundExtras(header []byte, family proxyproto.AddressFamilyAndProtocol) bool {
	at := headLen2 + 2*4 + 2*2
	if family.IsIPv6() {
		at = headLen2 + 2*16 + 2*2
	}
	for at < len(header) {
		if len(header)-at < 3 {
			return false
		}
		kind, value := header[at], at+3
		at = value + int(binary.BigEndian.Uint16(header[at+1:]))
		if at > len(header) || kind == typeCRC32C && !soundSum(header, value, at) {
			return false
		}
	}
	return true
}

// soundSum reports whether header[from:to] is the CRC-32C of the header with zeros in its place.
func soundSum(header []byte, from, to int) bool {
	if to-from != 4 {
		return false
	}
	zeroed := bytes.Clone(header)
	clear(zeroed[from:to])
	return binary.BigEndian.Uint32(header[from:]) == crc32.Checksum(zeroed, crc32.MakeTable(crc32.Castagnoli))
}
