package verify

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/bits"
	"strconv"
	"strings"

	"sallyport/audit/tree"
)

const (
	tileLevels  = 64 / groupHeight
	tileFolder  = "/tree/tile"
	maxPartials = 1 << 16
)

// tileCheck compares hash tiles with the records. Tiles are derived and signed by nobody: one that is missing means
// nothing; one that is wrong would break proofs.
type tileCheck struct {
	l        *logCheck
	here     bool
	durable  uint64 // leaves up to which tiles are on the disk for certain; beyond, a power cut may have left anything
	partials map[tilePlace][]int
	beyond   uint64 // the most leaves that the name of a tile speaks of
	base     []tree.Hash
	baseSize uint64
	levels   [tileLevels]tileLevel
}

// tilePlace is the n-th tile of a level.
type tilePlace struct {
	level int
	n     uint64
}

// tileLevel is the tile of a level that is not full yet.
type tileLevel struct {
	n       uint64
	entries []tree.Hash
	unknown int // entries at the begin that belong to records before the log's first
}

// path is the tile's file (C2SP tlog-tiles).
func (p tilePlace) path(log string, width int) string {
	s := fmt.Sprintf("%03d", p.n%1000)
	for n := p.n / 1000; n > 0; n /= 1000 {
		s = fmt.Sprintf("x%03d/%s", n%1000, s)
	}
	if width < groupLen {
		s += ".p/" + strconv.Itoa(width)
	}
	return log + tileFolder + "/" + strconv.Itoa(p.level) + "/" + s
}

// leavesTo is how many leaves a tree must have for a tile of that width.
func (p tilePlace) leavesTo(width int) uint64 {
	entries := p.n*groupLen + uint64(width)
	if entries > math.MaxUint64>>(groupHeight*p.level) {
		return math.MaxUint64
	}
	return entries << (groupHeight * p.level)
}

// openTiles lists the tiles of a log.
func (l *logCheck) openTiles() *tileCheck {
	t := &tileCheck{l: l, durable: math.MaxUint64, partials: map[tilePlace][]int{}}
	if l.quiet || l.skip.tiles || !l.folder.isFolder(l.name+tileFolder) {
		return t
	}
	t.here = true
	if b, err := l.folder.read(l.name+"/tree/durable", 64); err == nil {
		if n, err := strconv.ParseUint(strings.TrimSuffix(string(b), "\n"), 10, 64); err == nil {
			t.durable = n
		}
	}
	t.walk(func(name string, p tilePlace, width int, ok bool) {
		if !ok {
			l.unknown(name)
			return
		}
		t.beyond = max(t.beyond, p.leavesTo(width))
		if width < groupLen && len(t.partials) < maxPartials {
			t.partials[p] = append(t.partials[p], width)
		}
	})
	return t
}

// walk calls fn with every file below the tiles' folder; ok is false for one that is no tile.
func (t *tileCheck) walk(fn func(name string, p tilePlace, width int, ok bool)) {
	base := t.l.name + tileFolder
	for e, err := range t.l.folder.list(base) {
		if err != nil {
			return
		}
		level, err := strconv.Atoi(e.Name())
		if !e.IsDir() || err != nil || level < 0 || level >= tileLevels || strconv.Itoa(level) != e.Name() {
			fn(base+"/"+e.Name(), tilePlace{}, 0, false)
			continue
		}
		t.walkNumbers(base+"/"+e.Name(), tilePlace{level: level}, 0, fn)
	}
}

// walkNumbers goes through folders of a thousand.
func (t *tileCheck) walkNumbers(folder string, p tilePlace, depth int, fn func(string, tilePlace, int, bool)) {
	for e, err := range t.l.folder.list(folder) {
		if err != nil {
			return
		}
		name := folder + "/" + e.Name()
		digits, partial := strings.CutSuffix(e.Name(), ".p")
		digits, more := strings.CutPrefix(digits, "x")
		n, err := strconv.ParseUint(digits, 10, 64)
		at := tilePlace{p.level, p.n*1000 + n}
		switch {
		case err != nil || len(digits) != 3 || partial && more || e.IsDir() != (partial || more) || depth > 5:
			fn(name, at, 0, false)
		case more:
			t.walkNumbers(name, at, depth+1, fn)
		case partial:
			t.walkPartial(name, at, fn)
		default:
			fn(name, at, groupLen, true)
		}
	}
}

func (t *tileCheck) walkPartial(folder string, p tilePlace, fn func(string, tilePlace, int, bool)) {
	for e, err := range t.l.folder.list(folder) {
		if err != nil {
			return
		}
		width, err := strconv.Atoi(e.Name())
		ok := err == nil && strconv.Itoa(width) == e.Name() && width > 0 && width < groupLen && !e.IsDir()
		fn(folder+"/"+e.Name(), p, width, ok)
	}
}

// restart goes on from another tree: what its tiles hold of what lies before is known by its frontier only.
func (t *tileCheck) restart(f *tree.Frontier) {
	t.base, t.baseSize = nil, f.Size()
	for b := f.AppendBinary(nil); len(b) > 0; b = b[len(tree.Hash{}):] {
		t.base = append(t.base, tree.Hash(b[:len(tree.Hash{})]))
	}
	for k := range t.levels {
		entries := f.Size() >> (groupHeight * k)
		l := &t.levels[k]
		l.n, l.unknown = entries/groupLen, int(entries%groupLen)
		l.entries = append(l.entries[:0], make([]tree.Hash, l.unknown)...)
	}
}

// made takes the hash of a complete subtree of 256^level leaves.
func (t *tileCheck) made(level int, h tree.Hash) {
	if !t.here || level >= tileLevels {
		return
	}
	l := &t.levels[level]
	l.entries = append(l.entries, h)
	if len(l.entries) == groupLen {
		t.compareAll(tilePlace{level, l.n}, l)
		l.n, l.entries, l.unknown = l.n+1, l.entries[:0], 0
	}
}

// skipGroup passes over a tile of leaves that a worker has compared.
func (t *tileCheck) skipGroup() { t.levels[0].n++ }

// compareAll compares all files of a tile.
func (t *tileCheck) compareAll(p tilePlace, l *tileLevel) {
	widths := t.partials[p]
	if len(l.entries) == groupLen {
		widths = append(widths[:len(widths):len(widths)], groupLen)
	}
	for _, width := range widths {
		if width > len(l.entries) {
			continue
		}
		b, err := t.l.folder.read(p.path(t.l.name, width), groupLen*int64(len(tree.Hash{})))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		t.l.out.Tiles++
		if err != nil || !t.agrees(b, p.level, l.entries[:width], l.unknown) {
			t.l.add(t.wrong(p, width))
		}
	}
}

// agrees compares a tile's file with its entries. Those of records that were pruned are known by their frontier, and are
// zero where tiles were made anew without them.
func (t *tileCheck) agrees(b []byte, level int, entries []tree.Hash, unknown int) bool {
	if len(b) != len(entries)*len(tree.Hash{}) {
		return false
	}
	have := make([]tree.Hash, len(entries))
	for i := range have {
		have[i] = tree.Hash(b[i*len(tree.Hash{}):])
	}
	for i := min(unknown, len(entries)); i < len(entries); i++ {
		if have[i] != entries[i] {
			return false
		}
	}
	if unknown == 0 || unknown > len(entries) {
		return true
	}
	return isZeroes(have[:unknown]) || t.folds(have[:unknown], level)
}

// folds reports whether the entries of pruned records give the frontier.
func (t *tileCheck) folds(entries []tree.Hash, level int) bool {
	for len(entries) > 0 {
		n := 1 << (bits.Len(uint(len(entries))) - 1)
		height := groupHeight*level + bits.TrailingZeros(uint(n))
		above := bits.OnesCount64(t.baseSize >> height >> 1)
		if t.baseSize>>height&1 == 0 || rootOf(append([]tree.Hash(nil), entries[:n]...)) != t.base[above] {
			return false
		}
		entries = entries[n:]
	}
	return true
}

func isZeroes(hashes []tree.Hash) bool {
	for _, h := range hashes {
		if h != (tree.Hash{}) {
			return false
		}
	}
	return true
}

// wrong is the finding about a tile that is not that of the records.
func (t *tileCheck) wrong(p tilePlace, width int) Finding {
	name := p.path(t.l.name, width)
	if p.leavesTo(width) > t.durable {
		return Finding{Severity: Gaps, Class: ClassTile, Log: t.l.name, File: name,
			Text: "the hash tile is not that of the records; it was written shortly before the gateway stopped, and is made anew when it starts"}
	}
	return Finding{Severity: Tampered, Class: ClassTile, Log: t.l.name, File: name, Text: "the hash tile is not that of the records"}
}

// compareGroups compares the tiles of the groups that a worker hashed; it is called by workers.
func (l *logCheck) compareGroups(c *chunk) {
	t := l.tiles
	if !t.here {
		return
	}
	first := c.first + -c.first%groupLen
	for i := range c.groups {
		p := tilePlace{0, first/groupLen + uint64(i)}
		at := int(first-c.first) + i*groupLen
		for _, width := range append(t.partials[p][:len(t.partials[p]):len(t.partials[p])], groupLen) {
			b, err := l.folder.read(p.path(l.name, width), groupLen*int64(len(tree.Hash{})))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			c.tiles++
			if err != nil || !bytes.Equal(b, flat(c.leaves[at:at+width])) {
				c.found = append(c.found, t.wrong(p, width))
			}
		}
	}
}

func flat(hashes []tree.Hash) []byte {
	b := make([]byte, 0, len(hashes)*len(tree.Hash{}))
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return b
}

// finish compares the tiles at the right edge, those of pruned records, and the names of all with the log's end.
func (t *tileCheck) finish() {
	if !t.here {
		return
	}
	for level := range t.levels {
		l := &t.levels[level]
		if len(l.entries) > 0 {
			t.compareAll(tilePlace{level, l.n}, l)
		}
	}
	if t.l.out.First > 0 {
		t.pruned()
	}
	if t.beyond > t.l.grow.size && !t.l.unsure && !t.l.broken {
		t.l.gap(Gap{Class: ClassTile, First: t.l.grow.size, End: t.beyond}, "there are hash tiles of %d records, and the log has %d", t.beyond, t.l.grow.size)
	}
}

// pruned checks tiles all of whose records were pruned: each must be what the tile above it says.
func (t *tileCheck) pruned() {
	first := t.l.out.First
	t.walk(func(name string, p tilePlace, width int, ok bool) {
		if !ok || width < groupLen || p.leavesTo(groupLen) > first {
			return
		}
		b, err := t.l.folder.read(name, groupLen*int64(len(tree.Hash{})))
		above := t.entry(tilePlace{p.level + 1, p.n / groupLen}, int(p.n%groupLen))
		if err != nil || len(b) != groupLen*len(tree.Hash{}) {
			t.l.add(t.wrong(p, groupLen))
			return
		}
		t.l.out.Tiles++
		have := make([]tree.Hash, groupLen)
		for i := range have {
			have[i] = tree.Hash(b[i*len(tree.Hash{}):])
		}
		if above != (tree.Hash{}) && !isZeroes(have) && rootOf(have) != above {
			t.l.add(t.wrong(p, groupLen))
		}
	})
}

// entry is one hash of a tile, out of the full file or any partial one that has it; zero when there is none.
func (t *tileCheck) entry(p tilePlace, i int) tree.Hash {
	for _, width := range append(t.partials[p][:len(t.partials[p]):len(t.partials[p])], groupLen) {
		b, err := t.l.folder.read(p.path(t.l.name, width), groupLen*int64(len(tree.Hash{})))
		if err == nil && len(b) >= (i+1)*len(tree.Hash{}) {
			return tree.Hash(b[i*len(tree.Hash{}):])
		}
	}
	return tree.Hash{}
}
