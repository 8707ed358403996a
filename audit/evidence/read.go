package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"sallyport/audit"
	"sallyport/audit/tree"

	"github.com/klauspost/compress/flate"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CheckFiles compares the zip with the manifest: every file must be there, be what it was, and be listed. The contents
// of records are not looked at here but whenever Records reads them; all other files are, in the order of the manifest.
func (b *Bundle) CheckFiles() []Problem {
	var problems []Problem
	if b.repacked != nil {
		problems = append(problems, Problem{Kind: Repacked, Err: b.repacked})
	}
	if b.note == nil {
		problems = append(problems, Problem{Kind: Missing, Name: NoteName})
	}
	for i := range b.manifest.Files {
		if err := b.checkFile(&b.manifest.Files[i]); err != nil {
			problems = append(problems, *err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.members)) {
		if b.listed[name] == nil && name != ManifestName && name != NoteName {
			problems = append(problems, Problem{Kind: Unlisted, Name: name})
		}
	}
	return problems
}

func (b *Bundle) checkFile(f *File) *Problem {
	m, ok := b.members[f.Name]
	if !ok {
		return &Problem{Kind: Missing, Name: f.Name}
	}
	if partPath.MatchString(f.Name) {
		if m.size != f.Size {
			return &Problem{Kind: Altered, Name: f.Name, Err: fmt.Errorf("%d bytes, not %d", m.size, f.Size)}
		}
		return nil
	}
	_, problem := b.readListed(f)
	return problem
}

// read returns the contents of one file, compared with the manifest.
func (b *Bundle) read(name string) ([]byte, error) {
	f := b.listed[name]
	if f == nil {
		return nil, &Problem{Kind: Missing, Name: name, Err: errors.New("the manifest lists no such file")}
	}
	text, problem := b.readListed(f)
	if problem != nil {
		return nil, problem
	}
	return text, nil
}

func (b *Bundle) readListed(f *File) ([]byte, *Problem) {
	m, ok := b.members[f.Name]
	if !ok {
		return nil, &Problem{Kind: Missing, Name: f.Name}
	}
	if m.size != f.Size {
		return nil, &Problem{Kind: Altered, Name: f.Name, Err: fmt.Errorf("%d bytes, not %d", m.size, f.Size)}
	}
	packed, err := b.packedBytes(&m)
	if err == nil && b.repacked == nil && (m.packed != f.Packed || packedCRC(packed) != f.PackedCRC) {
		err = errors.New("its packed bytes are others than the manifest says")
	}
	var text []byte
	if err == nil {
		text, err = m.inflate(packed, limitOf(f.Name))
	}
	if err == nil {
		if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != f.SHA256 {
			err = errors.New("its SHA-256 is another than the manifest says")
		}
	}
	if err != nil {
		return nil, &Problem{Kind: Altered, Name: f.Name, Err: err}
	}
	return text, nil
}

func packedCRC(packed []byte) string { return fmt.Sprintf("%08x", crc32.Checksum(packed, castagnoli)) }

// unpack returns the contents of one file of the zip.
func (b *Bundle) unpack(m *member, limit int64) ([]byte, error) {
	packed, err := b.packedBytes(m)
	if err != nil {
		return nil, err
	}
	return m.inflate(packed, limit)
}

func (b *Bundle) packedBytes(m *member) ([]byte, error) {
	limit := limitOf(m.name)
	if m.packed > limit+limit/1000+1024 { // what does not shrink grows by five bytes in 65,535
		return nil, fmt.Errorf("%d packed bytes are too many", m.packed)
	}
	packed := make([]byte, m.packed)
	_, err := b.file.ReadAt(packed, m.data)
	return packed, err
}

var errMore = errors.New("there is more than the zip announces")

// inflate unpacks no more than the zip announces, and nothing may be left over.
func (m *member) inflate(packed []byte, limit int64) ([]byte, error) {
	if m.size > limit {
		return nil, fmt.Errorf("%d bytes, more than %d", m.size, limit)
	}
	text := packed
	switch m.method {
	case methodStore:
	case methodDeflate:
		source := bytes.NewReader(packed)
		var out bytes.Buffer
		out.Grow(int(min(m.size, 64*m.packed+1024)) + bytes.MinRead)
		n, err := io.Copy(&out, io.LimitReader(flate.NewReader(source), m.size+1))
		if err != nil {
			return nil, err
		}
		if n > m.size || source.Len() != 0 {
			return nil, errMore
		}
		text = out.Bytes()
	default:
		return nil, fmt.Errorf("packed by method %d", m.method)
	}
	if int64(len(text)) != m.size || crc32.ChecksumIEEE(text) != m.crc {
		return nil, errors.New("its size or CRC-32 is another than the zip announces")
	}
	return text, nil
}

// PartRecords yields the records of one part of the manifest. An error, after which nothing follows, is a *Problem. The
// part is held in memory, and compared with the manifest before anything is yielded.
func (b *Bundle) PartRecords(p *Part) iter.Seq2[Leaf, error] {
	return func(yield func(Leaf, error) bool) {
		text, err := b.read(p.File)
		if err != nil {
			yield(Leaf{}, err)
			return
		}
		matches, err := b.matches(p)
		if err != nil {
			yield(Leaf{}, err)
			return
		}
		index, found := p.First, uint64(0)
		for line := range bytes.Lines(text) {
			leaf, err := b.leaf(line)
			leaf.Index = index
			leaf.Match = matches.holds(index) && leaf.Raw != nil
			if index++; leaf.Match {
				found++
			}
			if err == nil && index-p.First > p.Records {
				err = fmt.Errorf("more than %d lines", p.Records)
			}
			if err != nil {
				yield(Leaf{}, &Problem{Kind: Altered, Name: p.File, Err: err})
				return
			}
			if !yield(leaf, nil) {
				return
			}
		}
		if index-p.First != p.Records || found != p.Matching {
			err := fmt.Errorf("%d lines with %d matches, not %d with %d", index-p.First, found, p.Records, p.Matching)
			yield(Leaf{}, &Problem{Kind: Altered, Name: p.File, Err: err})
		}
	}
}

// leaf reads one line: a record's JSON object, or the base64 of its leaf hash, which begins with no brace.
func (b *Bundle) leaf(line []byte) (Leaf, error) {
	line, ok := bytes.CutSuffix(line, []byte{'\n'})
	if !ok || len(line) > audit.MaxRecord {
		return Leaf{}, errors.New("a line without end")
	}
	if len(line) > 0 && line[0] == '{' {
		return Leaf{Raw: line}, nil
	}
	if !b.manifest.OnlyMatching {
		return Leaf{}, errors.New("a line is no record")
	}
	h, err := parseHash(line)
	return Leaf{Hash: h}, err
}

// runs are indexes, each pair the first and the last of consecutive ones, in order.
type runs [][2]uint64

// every is the runs of all indexes there can be.
var every = runs{{0, ^uint64(0)}}

// holds reports whether an index is among them; asked in order, so that runs passed are not looked at again.
func (r *runs) holds(index uint64) bool {
	for len(*r) > 0 && (*r)[0][1] < index {
		*r = (*r)[1:]
	}
	return len(*r) > 0 && (*r)[0][0] <= index
}

// matches returns which records of a part match.
func (b *Bundle) matches(p *Part) (runs, error) {
	if p.Matches == "" && p.Matching == 0 {
		return nil, nil
	}
	if p.Matches == "" {
		return every, nil // all, or all that are not withheld
	}
	text, err := b.read(p.Matches)
	if err != nil {
		return nil, err
	}
	r, err := parseRuns(string(text), p)
	if err != nil {
		return nil, &Problem{Kind: Altered, Name: p.Matches, Err: err}
	}
	return r, nil
}

// matchesHeader is the first line of a matches file (RFC 4180, with bare line feeds).
const matchesHeader = "first,last\n"

func parseRuns(text string, p *Part) (r runs, err error) {
	text, ok := strings.CutPrefix(text, matchesHeader)
	if !ok {
		return nil, errors.New("it has no header")
	}
	next := p.First
	for line := range strings.Lines(text) {
		a, z, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ",")
		first, err1 := strconv.ParseUint(a, 10, 64)
		last, err2 := strconv.ParseUint(z, 10, 64)
		if err := errors.Join(err1, err2); err != nil || first < next || last < first || last-p.First >= p.Records {
			return nil, fmt.Errorf("line %q names no records of %s", line, p.File)
		}
		r = append(r, [2]uint64{first, last})
		next = last + 1
	}
	return r, nil
}

// encodeProof is a range proof's file.
func encodeProof(p tree.RangeProof) []byte {
	text, err := json.Marshal(p)
	if err != nil {
		panic("BUG: range proof: " + err.Error())
	}
	return append(text, '\n')
}

// parseProof reads the proof of what the bundle holds of a log.
func parseProof(text []byte, l *LogManifest) (p tree.RangeProof, err error) {
	if err := json.Unmarshal(text, &p); err != nil {
		return p, err
	}
	if !bytes.Equal(encodeProof(p), text) {
		return p, errors.New("it is not in the form this program writes")
	}
	if l == nil || p.First != l.First || p.Last != l.End || p.Size != l.Size {
		return p, fmt.Errorf("it is about records %d to %d of %d", p.First, p.Last, p.Size)
	}
	return p, nil
}

// parseHash reads a hash in base64, of which there is one spelling.
func parseHash(b []byte) (tree.Hash, error) {
	raw, err := base64.StdEncoding.DecodeString(string(b))
	if err != nil || len(raw) != sha256.Size || tree.Hash(raw).String() != string(b) {
		return tree.Hash{}, fmt.Errorf("%q is no hash", b)
	}
	return tree.Hash(raw), nil
}
