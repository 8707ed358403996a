package evidence

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/audit/filter/peek"
	"sallyport/audit/tree"

	"github.com/klauspost/compress/flate"
)

// job is one part in the making. Its fields up to text are the reader's, the rest is the worker's until done is closed.
type job struct {
	log     string
	first   uint64
	records uint64
	text    []byte // the records, one a line

	done     chan struct{}
	err      error
	part     Part
	files    []packedFile // the part and, where there is one, its matches
	leaves   []tree.Hash
	inPeriod uint64
	counts   tally
	policies map[string]bool
}

// packedFile is one file, ready for the zip.
type packedFile struct {
	file   File
	member member
	bytes  []byte
}

// tally counts records by type and effect.
type tally map[[2]string]*Count

func (t tally) add(kind, effect string, match bool) {
	key := [2]string{kind, effect}
	c := t[key]
	if c == nil {
		kind, effect = strings.Clone(kind), strings.Clone(effect)
		c = &Count{Type: kind, Effect: effect}
		t[[2]string{kind, effect}] = c
	}
	c.Records++
	if match {
		c.Matching++
	}
}

func (t tally) merge(other tally) {
	for key, c := range other {
		if t[key] == nil {
			t[key] = &Count{Type: c.Type, Effect: c.Effect}
		}
		t[key].Records += c.Records
		t[key].Matching += c.Matching
	}
}

func (t tally) list() []Count {
	list := make([]Count, 0, len(t))
	for _, c := range t {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Effect, b.Effect))
	})
	return list
}

// packer packs parts; each worker has its own.
type packer struct {
	opts    *Options
	period  period
	deflate *flate.Writer
}

func newPacker(opts *Options) *packer {
	w, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return &packer{opts: opts, period: opts.period(), deflate: w}
}

// do works on one job.
func (p *packer) do(j *job) {
	defer close(j.done)
	j.counts, j.policies = tally{}, map[string]bool{}
	j.part = Part{File: partName(j.log, j.first), First: j.first, Records: j.records}
	var matched runs
	var withheld []byte
	if p.opts.OnlyMatching {
		withheld = make([]byte, 0, len(j.text))
	}
	all := string(j.text)
	at := 0
	for line := range strings.Lines(all) {
		index := j.first + uint64(len(j.leaves))
		raw := j.text[at : at+len(line)-1]
		at += len(line)
		match, err := p.look(j, line[:len(line)-1], raw)
		if err != nil {
			j.err = fmt.Errorf("%s log, record %d: %w", j.log, index, err)
			return
		}
		leaf := tree.HashLeaf(raw)
		j.leaves = append(j.leaves, leaf)
		switch {
		case match:
			j.part.Matching++
			matched.add(index)
			if p.opts.OnlyMatching {
				withheld = append(withheld, line...)
			}
		case p.opts.OnlyMatching:
			withheld = append(append(withheld, leaf.String()...), '\n')
		}
	}
	text := j.text
	if p.opts.OnlyMatching {
		text = withheld
	}
	j.files = append(j.files, p.pack(j.part.File, text))
	if !p.opts.OnlyMatching && j.part.Matching > 0 && j.part.Matching < j.records {
		j.part.Matches = matchesName(j.log, j.first)
		j.files = append(j.files, p.pack(j.part.Matches, matched.appendCSV(nil)))
	}
}

// look counts one record and reports whether it is part of the answer.
func (p *packer) look(j *job, line string, raw []byte) (match bool, err error) {
	var kind, effect, clock, policy string
	for name, value := range peek.Members(line) {
		switch name {
		case "type":
			kind = peek.Text(value)
		case "time":
			clock = peek.Text(value)
		case "effect":
			effect = peek.Text(value)
		case "policy":
			policy = peek.Text(peek.Member(value, "digest"))
		}
	}
	t, err := time.Parse(time.RFC3339, clock)
	if err != nil {
		return false, err
	}
	if p.period.holds(t) {
		j.inPeriod++
		match = p.opts.Match == nil || p.opts.Match(raw)
	}
	j.counts.add(kind, effect, match)
	if policy != "" && (match || !p.opts.OnlyMatching) && !j.policies[policy] {
		j.policies[strings.Clone(policy)] = true
	}
	return match, nil
}

// pack hashes and compresses one file.
func (p *packer) pack(name string, text []byte) packedFile {
	var b bytes.Buffer
	b.Grow(len(text)/4 + 1024)
	p.deflate.Reset(&b)
	if _, err := p.deflate.Write(text); err != nil {
		panic("BUG: " + err.Error()) // a buffer takes everything
	}
	if err := p.deflate.Close(); err != nil {
		panic("BUG: " + err.Error())
	}
	return newPacked(name, methodDeflate, text, b.Bytes())
}

func newPacked(name string, method uint16, text, packed []byte) packedFile {
	sum := sha256.Sum256(text)
	return packedFile{
		file: File{Name: name, Size: int64(len(text)), SHA256: hex.EncodeToString(sum[:]), Packed: int64(len(packed)),
			PackedCRC: packedCRC(packed)},
		member: member{name: name, method: method, crc: crc32.ChecksumIEEE(text), size: int64(len(text))},
		bytes:  packed,
	}
}

// add adds the next index.
func (r *runs) add(index uint64) {
	if n := len(*r); n > 0 && (*r)[n-1][1]+1 == index {
		(*r)[n-1][1] = index
		return
	}
	*r = append(*r, [2]uint64{index, index})
}

func (r runs) appendCSV(b []byte) []byte {
	b = append(b, matchesHeader...)
	for _, run := range r {
		b = strconv.AppendUint(b, run[0], 10)
		b = strconv.AppendUint(append(b, ','), run[1], 10)
		b = append(b, '\n')
	}
	return b
}

func sortedKeys(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }
