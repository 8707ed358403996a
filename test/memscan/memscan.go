// Package memscan looks for private keys in the memory of a running process: the proof that a gateway holds none has to
// be able to fail.
//
//	secrets, err := memscan.Files("/var/lib/sallyport-keyd/keys/*.pem")
//	finds, err := memscan.Process(pid, secrets)
//
// It finds any 16 consecutive bytes of a secret number (an EC scalar, an Ed25519 seed or expanded key, an RSA exponent
// or prime) as raw bytes in either order, as 64-bit words, in hex and in base64, and thereby in DER and PEM. Public
// parts are not looked for: every process may hold those.
package memscan

import (
	"bufio"
	"bytes"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// run is how many bytes of a secret in a row count as a find.
const run = 16

// Secret is one private number of a key.
type Secret struct {
	Key   string // what the key is called
	Part  string // scalar, seed, prime 1, …
	bytes []byte // big-endian
}

// Find is a place where a secret was found.
type Find struct {
	Key, Part string
	Form      string // raw, reversed, words, hex, base64
	Address   uint64
	Region    string // the line of /proc/<pid>/maps
}

// String says where, without the bytes.
func (f Find) String() string {
	return fmt.Sprintf("%s of %s, %s, at %#x in %s", f.Part, f.Key, f.Form, f.Address, f.Region)
}

// Files returns the secrets of every PKCS #8 file in PEM that the pattern matches, at least one.
func Files(pattern string) ([]Secret, error) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	var all []Secret
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		block, _ := pem.Decode(data)
		if block == nil {
			return nil, fmt.Errorf("%s is not PEM", file)
		}
		secrets, err := PKCS8(filepath.Base(file), block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, secrets...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no key matches %s", pattern)
	}
	return all, nil
}

// Object identifiers of the keys that PKCS8 takes apart: RFC 5480, RFC 8017, RFC 8410.
var (
	oidEC      = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidRSA     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}
)

// PKCS8 returns the secrets of one key. It takes the DER apart itself: packages of this module that can turn files into
// working keys are kept few.
func PKCS8(name string, der []byte) ([]Secret, error) {
	var outer struct {
		Version   int
		Algorithm struct {
			OID        asn1.ObjectIdentifier
			Parameters asn1.RawValue `asn1:"optional"`
		}
		Private []byte
	}
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return nil, fmt.Errorf("not PKCS #8: %w", err)
	}
	switch oid := outer.Algorithm.OID; {
	case oid.Equal(oidEC):
		return ecSecrets(name, outer.Private)
	case oid.Equal(oidRSA):
		return rsaSecrets(name, outer.Private)
	case oid.Equal(oidEd25519):
		return edSecrets(name, outer.Private)
	default:
		return nil, fmt.Errorf("unknown algorithm %v", oid)
	}
}

// ecSecrets reads an ECPrivateKey: RFC 5915 §3.
func ecSecrets(name string, der []byte) ([]Secret, error) {
	var k struct {
		Version    int
		Private    []byte
		Parameters asn1.RawValue  `asn1:"optional,explicit,tag:0"`
		Public     asn1.BitString `asn1:"optional,explicit,tag:1"`
	}
	if _, err := asn1.Unmarshal(der, &k); err != nil {
		return nil, fmt.Errorf("not an EC key: %w", err)
	}
	return []Secret{{name, "scalar", k.Private}}, nil
}

// rsaSecrets reads an RSAPrivateKey: RFC 8017 §A.1.2.
func rsaSecrets(name string, der []byte) ([]Secret, error) {
	var k struct {
		Version                  int
		N, E, D, P, Q, DP, DQ, I *big.Int
	}
	if _, err := asn1.Unmarshal(der, &k); err != nil {
		return nil, fmt.Errorf("not an RSA key: %w", err)
	}
	return []Secret{
		{name, "exponent", k.D.Bytes()}, {name, "prime 1", k.P.Bytes()}, {name, "prime 2", k.Q.Bytes()},
		{name, "exponent 1", k.DP.Bytes()}, {name, "exponent 2", k.DQ.Bytes()}, {name, "coefficient", k.I.Bytes()},
	}, nil
}

// edSecrets reads a CurvePrivateKey (RFC 8410 §7) and expands it (RFC 8032 §5.1.5).
func edSecrets(name string, der []byte) ([]Secret, error) {
	var seed []byte
	if _, err := asn1.Unmarshal(der, &seed); err != nil {
		return nil, fmt.Errorf("not an Ed25519 key: %w", err)
	}
	h := sha512.Sum512(seed)
	clamped := slices.Clone(h[:32])
	clamped[0] &= 248
	clamped[31] = clamped[31]&63 | 64
	return []Secret{{name, "seed", seed}, {name, "scalar", clamped}, {name, "hash", h[32:]}}, nil
}

// needle is one run of bytes that gives a secret away.
type needle struct {
	bytes  string
	secret Secret
	form   string
}

// haystack looks for many needles at once. A needle's first eight bytes lead to it; most positions are dismissed by
// their first two.
type haystack struct {
	first   [1 << 16]bool
	needles map[uint64][]needle
	longest int
}

func newHaystack(secrets []Secret) (*haystack, error) {
	h := &haystack{needles: map[uint64][]needle{}}
	for _, s := range secrets {
		if len(s.bytes) < run {
			return nil, fmt.Errorf("%s of %s has only %d bytes", s.Part, s.Key, len(s.bytes))
		}
		h.addForms(s)
	}
	return h, nil
}

func (h *haystack) addForms(s Secret) {
	big := string(s.bytes)
	little := slices.Clone(s.bytes)
	slices.Reverse(little)
	h.add(s, "raw", big, run)
	h.add(s, "reversed", string(little), run) // also what an array of words holds on this machine, lowest first
	h.add(s, "words", words(s.bytes), run)
	for form, b := range map[string]string{"hex": big, "hex, reversed": string(little)} {
		h.add(s, form, hex.EncodeToString([]byte(b)), 2*run)
		h.add(s, form, strings.ToUpper(hex.EncodeToString([]byte(b))), 2*run)
	}
	// A secret inside of something that was encoded starts at any of three phases. 20 characters say 15 bytes, and fit
	// the shorter half of a number that a line of PEM ends in.
	for phase := range 3 {
		padded := append(make([]byte, phase), s.bytes...)
		for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := e.EncodeToString(padded)
			h.add(s, "base64", text[(phase*8+5)/6:len(text)-1], 20)
		}
	}
}

// words is the number as 64-bit words, highest first, each in this machine's order.
func words(b []byte) string {
	var out []byte
	for ; len(b) >= 8; b = b[8:] {
		out = binary.NativeEndian.AppendUint64(out, binary.BigEndian.Uint64(b))
	}
	return string(out)
}

// add makes a needle of every run of n bytes of form, except dull ones such as zeros, which prove nothing.
func (h *haystack) add(s Secret, form, text string, n int) {
	for i := 0; i+n <= len(text); i++ {
		piece := text[i : i+n]
		if dull(piece) {
			continue
		}
		h.first[binary.LittleEndian.Uint16([]byte(piece))] = true
		lead := binary.LittleEndian.Uint64([]byte(piece))
		h.needles[lead] = append(h.needles[lead], needle{piece, s, form})
		h.longest = max(h.longest, n)
	}
}

// dull reports fewer than six different bytes.
func dull(s string) bool {
	var seen [256]bool
	n := 0
	for i := range len(s) {
		if !seen[s[i]] {
			seen[s[i]] = true
			n++
		}
	}
	return n < 6
}

// search calls found for every needle in data, with its offset.
func (h *haystack) search(data []byte, found func(offset int, n needle)) {
	for i := 0; i+8 <= len(data); i++ {
		if !h.first[binary.LittleEndian.Uint16(data[i:])] {
			continue
		}
		for _, n := range h.needles[binary.LittleEndian.Uint64(data[i:])] {
			if bytes.HasPrefix(data[i:], []byte(n.bytes)) {
				found(i, n)
			}
		}
	}
}

// Bytes looks for the secrets in data. It returns one Find for each secret and form.
func Bytes(data []byte, secrets []Secret) ([]Find, error) {
	h, err := newHaystack(secrets)
	if err != nil {
		return nil, err
	}
	var finds finds
	h.search(data, func(offset int, n needle) { finds.add(n, uint64(offset), "data") })
	return finds, nil
}

// finds is what was found, the first of each kind.
type finds []Find

func (f *finds) add(n needle, address uint64, region string) {
	next := Find{n.secret.Key, n.secret.Part, n.form, address, region}
	if !slices.ContainsFunc(*f, func(have Find) bool {
		return have.Key == next.Key && have.Part == next.Part && have.Form == next.Form
	}) {
		*f = append(*f, next)
	}
}

// Process looks for the secrets in all readable memory of the process: heap, stacks, globals and mapped files. It
// returns the first Find of each secret and form. The caller needs the right to trace the process; memory that moves
// while it is read can hide a secret, so scan a process at rest, or more than once.
//
// A process that keeps most of its memory to itself would pass for clean, so reading less than 1 MiB is an error.
func Process(pid int, secrets []Secret) ([]Find, error) {
	h, err := newHaystack(secrets)
	if err != nil {
		return nil, err
	}
	regions, err := readable(pid)
	if err != nil {
		return nil, err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	var found finds
	total := 0
	for _, r := range regions {
		total += r.scan(mem, h, &found)
	}
	if total < 1<<20 {
		return nil, fmt.Errorf("only %d bytes of process %d can be read", total, pid)
	}
	return found, nil
}

// region is one mapping.
type region struct {
	start, end uint64
	line       string
}

func readable(pid int) ([]region, error) {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	defer maps.Close()
	var list []region
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var r region
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &r.start, &r.end, &mode); err != nil {
			return nil, fmt.Errorf("reading maps: %w", err)
		}
		r.line = lines.Text()
		// The kernel's own pages cannot be read this way, and hold nothing of the process.
		if strings.HasPrefix(mode, "r") && !strings.Contains(r.line, "[v") {
			list = append(list, r)
		}
	}
	return list, lines.Err()
}

const (
	piece = 1 << 20
	page  = 4 << 10
)

// scan reads the region in overlapping pieces and returns how many bytes it read. Pages that cannot be read, or are gone
// by now, are skipped.
func (r region) scan(mem io.ReaderAt, h *haystack, found *finds) (total int) {
	buf := make([]byte, piece+h.longest)
	for at := r.start; at < r.end; {
		want := buf[:min(uint64(len(buf)), r.end-at)]
		n, _ := mem.ReadAt(want, int64(at))
		h.search(want[:n], func(offset int, n needle) { found.add(n, at+uint64(offset), r.line) })
		total += n
		if n == len(want) {
			at += piece
		} else {
			at = (at+uint64(n))/page*page + page
		}
	}
	return total
}
