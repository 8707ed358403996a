package listen

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
)

// headerReader is readHeader, or one with a bug put in.
type headerReader func(io.Reader) (netip.AddrPort, error)

// breaksHeader says what is wrong with how a peer's bytes are read: a header ends where the specification says, and every
// byte after it is left for whoever reads on; a client is the one that go-proxyproto reads from the whole stream.
func breaksHeader(read headerReader, data []byte) string {
	stream := bytes.NewReader(data)
	client, err := read(stream)
	if err != nil {
		if client.IsValid() {
			return fmt.Sprintf("refused, and yet from %v", client)
		}
		return ""
	}
	end, want := len(data)-stream.Len(), bytes.IndexByte(data, '\n')+1
	if data[0] == '\r' {
		want = headLen2 + int(binary.BigEndian.Uint16(data[14:]))
	}
	if end != want {
		return fmt.Sprintf("read %d bytes of a header of %d", end, want)
	}
	h, err := library(data)
	switch {
	case err != nil:
		return "go-proxyproto refuses it: " + err.Error()
	case h.Command.IsLocal() != !client.IsValid():
		return fmt.Sprintf("command %v, and client %v", h.Command, client)
	case !client.IsValid():
		return ""
	}
	if _, err := h.TLVs(); err != nil {
		return "its vectors are cut: " + err.Error()
	}
	source := h.SourceAddr.(*net.TCPAddr).AddrPort()
	if client.Addr() != source.Addr().Unmap() || client.Port() != source.Port() {
		return fmt.Sprintf("client %v, want %v", client, source)
	}
	if client.Addr().IsMulticast() || client.Addr().IsUnspecified() {
		return fmt.Sprintf("client %v, which is nobody", client)
	}
	return ""
}

// library is how others read a header.
func library(data []byte) (*proxyproto.Header, error) {
	return proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(data), 8<<10))
}

// FuzzHeader: whatever a trusted peer sends, nothing panics, and breaksHeader finds nothing.
func FuzzHeader(f *testing.F) {
	for _, tt := range headers {
		f.Add([]byte(tt.header + "rest"))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if wrong := breaksHeader(readHeader, data); wrong != "" {
			t.Errorf("%q: %s", data, wrong)
		}
	})
}

// careless are readers with a bug each.
var careless = map[string]headerReader{
	"believes LOCAL's addresses": rewriting(func(header []byte) []byte {
		if header[0] == '\r' && header[12] == local {
			header[12] = proxy
		}
		return header
	}),
	"believes UNKNOWN's addresses": rewriting(func(header []byte) []byte {
		return bytes.Replace(header, []byte("PROXY UNKNOWN 1"), []byte("PROXY TCP4 1"), 1)
	}),
	"takes a line of any length": func(r io.Reader) (netip.AddrPort, error) {
		line := []byte{0}
		for _, err := r.Read(line); err == nil && line[len(line)-1] != '\n'; _, err = io.ReadFull(r, line[len(line)-1:]) {
			line = append(line, 0)
		}
		if bytes.HasPrefix(line, []byte("PROXY UNKNOWN ")) && bytes.HasSuffix(line, []byte("\r\n")) {
			return netip.AddrPort{}, nil
		}
		return parseHeader(line)
	},
	"reads addresses only, whatever the length says": func(r io.Reader) (netip.AddrPort, error) {
		header := make([]byte, headLen2+len(v4))
		if _, err := io.ReadFull(r, header); err != nil {
			return netip.AddrPort{}, err
		}
		binary.BigEndian.PutUint16(header[14:], uint16(len(v4)))
		return parseHeader(header)
	},
	"reads ahead": func(r io.Reader) (netip.AddrPort, error) {
		all := bufio.NewReader(r)
		return readHeader(all)
	},
	"takes where it went for where it came from":  believing(func(h *proxyproto.Header) net.Addr { return h.DestinationAddr }),
	"lets anybody be nobody, and cuts no vectors": believing(func(h *proxyproto.Header) net.Addr { return h.SourceAddr }),
}

// rewriting reads a header after an edit.
func rewriting(edit func([]byte) []byte) headerReader {
	return func(r io.Reader) (netip.AddrPort, error) {
		header, err := cutHeader(r)
		if err != nil {
			return netip.AddrPort{}, err
		}
		return parseHeader(edit(header))
	}
}

// believing takes the library's word for everything.
func believing(which func(*proxyproto.Header) net.Addr) headerReader {
	return func(r io.Reader) (netip.AddrPort, error) {
		header, err := cutHeader(r)
		if err != nil {
			return netip.AddrPort{}, err
		}
		h, err := library(header)
		if err != nil || h.Command.IsLocal() {
			return netip.AddrPort{}, err
		}
		at, ok := which(h).(*net.TCPAddr)
		if !ok {
			return netip.AddrPort{}, errMalformed
		}
		return netip.AddrPortFrom(at.AddrPort().Addr().Unmap(), at.AddrPort().Port()), nil
	}
}

func TestHeaderCorpusFindsCarelessReaders(t *testing.T) {
	seeds := corpus(t, "FuzzHeader")
	for name, read := range careless {
		if !slices.ContainsFunc(seeds, func(seed []byte) bool { return breaksHeader(read, seed) != "" }) {
			t.Errorf("no seed shows what is wrong with a reader that %s", name)
		}
	}
}

// What strangers' corpus says would be believed of peers that are trusted, so it shows a door that trusts everybody.
func TestStrangersCorpusNamesOthers(t *testing.T) {
	if !slices.ContainsFunc(corpus(t, "FuzzStrangers"), func(seed []byte) bool {
		client, err := readHeader(bytes.NewReader(seed))
		return err == nil && client.IsValid()
	}) {
		t.Error("no seed names a client that somebody would believe")
	}
}

// corpus is what is committed of a fuzz test's inputs.
func corpus(t *testing.T, name string) (seeds [][]byte) {
	t.Helper()
	files, err := filepath.Glob("testdata/fuzz/" + name + "/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, line, _ := strings.Cut(string(data), "\n[]byte(")
		seed, err := strconv.Unquote(strings.TrimSuffix(strings.TrimSpace(line), ")"))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		seeds = append(seeds, []byte(seed))
	}
	return seeds
}
