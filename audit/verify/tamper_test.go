package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"sallyport/audit"
	"sallyport/audit/segment"
	"sallyport/audit/tree"
)

// scene is an honest directory that tests tamper with: several runs, closed in good order, all of it signed.
type scene struct {
	w      *world
	then   map[string][]byte // after the first run
	early  map[string][]byte // after the second
	now    map[string][]byte // after the last, with no receipt
	notes  map[string][][]byte
	plain  *tree.Trust // the keys
	pinned *tree.Trust // the keys, and receipts of the last run
}

// theScene is one for all tests, since none of them changes it.
var theScene struct {
	sync.Once
	*scene
}

func newScene(t testing.TB) *scene {
	t.Helper()
	theScene.Do(func() { theScene.scene = makeScene(t, 12) })
	if theScene.scene == nil {
		t.Fatal("there is no scene")
	}
	return theScene.scene
}

func makeScene(t testing.TB, seed uint64) *scene {
	w := newWorld(t, rand.New(rand.NewPCG(seed, seed)))
	s := &scene{w: w}
	bubble(t, func() {
		for i := range 3 {
			w.cfg.Seal = i > 0
			w.run(func(a *audit.Audit, _ *machine) {
				for range 2 {
					for range 170 {
						w.decideOne(a)
					}
					w.control(a, 25)
					time.Sleep(90 * time.Second)
					w.decide(a, 20)
				}
			})
			switch i {
			case 0:
				s.then = w.files()
			case 1:
				s.early = w.files()
			}
		}
	})
	s.now, s.notes = w.files(), w.keys.all
	last := func(log string) []byte { return s.notes[log][len(s.notes[log])-1] }
	s.plain, s.pinned = w.keys.trust(t), w.keys.trust(t, last("decision"), last("control"))
	for name, trust := range map[string]*tree.Trust{"plain": s.plain, "pinned": s.pinned} {
		if report := verifyFiles(t, s.now, Options{Trust: trust, Rederive: new(oracle)}); report.Result != Pass {
			t.Fatalf("the honest scene, %s:\n%s", name, printed(report))
		}
	}
	return s
}

func (w *world) decideOne(a *audit.Audit) {
	r := decisionRecord(fmt.Sprintf("/doc/%d", w.rnd.IntN(1000)), 20+w.rnd.IntN(200), digestOf(w.archive))
	if _, err := a.Decisions().Append(context.Background(), r); err != nil {
		w.t.Fatal(err)
	}
}

// tampering is one thing done to a directory, and what a verifier must say to it.
type tampering struct {
	what  string
	files map[string][]byte
	trust *tree.Trust
	want  []Result
	full  bool // found by reading records in full only
}

var (
	tampered  = []Result{Tampered}
	untrusted = []Result{Untrusted}
)

// tamperings makes one of each kind, at random.
var tamperings = map[string]func(testing.TB, *rand.Rand, *scene) tampering{
	"bit flip":            flipBit,
	"checksum flip":       flipChecksum,
	"edit, frame mended":  editMended,
	"edit, all rebuilt":   editRebuilt,
	"deleted record":      deleteRecord,
	"deleted segment":     deleteSegment,
	"deleted begin":       deleteBegin,
	"deleted end":         deleteEnd,
	"deleted log":         deleteLog,
	"swapped records":     swapRecords,
	"swapped segments":    swapSegments,
	"splice":              splice,
	"duplicated record":   duplicateRecord,
	"truncated file":      truncateFile,
	"dropped frames":      dropFrames,
	"rollback":            rollback,
	"rollback of one log": rollbackOne,
	"fork":                fork,
	"foreign checkpoint":  foreignCheckpoint,
	"forked checkpoint":   forkedCheckpoint,
	"header edit":         editHeader,
	"tile edit":           editTile,
	"policy edit":         editPolicy,
	"signed nonsense":     signedNonsense,
	"signed fork":         signedFork,
	"missing run":         missingRun,
	"emptied log":         emptiedLog,
}

func (s *scene) someLog(rnd *rand.Rand) string {
	return []string{audit.DecisionLog, audit.ControlLog}[rnd.IntN(2)]
}

func pick[T any](rnd *rand.Rand, from []T) T { return from[rnd.IntN(len(from))] }

func namesOf(files map[string][]byte, keep func(string) bool) (names []string) {
	for name, b := range files {
		if len(b) > 0 && keep(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func isSegment(name string) bool { return strings.Contains(name, segment.Suffix) }

func with(files map[string][]byte, name string, b []byte) map[string][]byte {
	files = maps.Clone(files)
	if files[name] = b; b == nil {
		delete(files, name)
	}
	return files
}

// flipBit turns one bit of a file that matters.
func flipBit(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	name := pick(rnd, namesOf(s.now, func(name string) bool {
		return isSegment(name) || strings.Contains(name, "/tree/") && !strings.HasSuffix(name, "durable") || strings.HasPrefix(name, "policies/")
	}))
	b := bytes.Clone(s.now[name])
	at := rnd.IntN(len(b))
	want := tampered
	switch {
	case strings.HasSuffix(name, "history"):
		want = []Result{Tampered, Untrusted, Gaps} // of the name of a key, or the very last line break
	case strings.HasSuffix(name, "checkpoint"):
		want = []Result{Tampered, Untrusted}
	case strings.HasSuffix(name, segment.Suffix):
		if end := usedBytes(b); at >= end {
			if rnd.IntN(3) > 0 {
				at = rnd.IntN(end)
			} else {
				want = []Result{Gaps, Tampered} // beyond the end: like the remains of a power cut
			}
		}
	case strings.Contains(name, "/tile/"):
		want = []Result{Tampered}
	}
	b[at] ^= 1 << rnd.IntN(8)
	return tampering{what: fmt.Sprintf("bit of %s at %d of %d", name, at, len(b)), files: with(s.now, name, b), trust: s.plain, want: want}
}

// flipChecksum turns a bit of a frame's checksum, so that nothing but that is wrong.
func flipChecksum(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	name := pick(rnd, namesOf(s.now, func(name string) bool {
		return strings.HasSuffix(name, segment.Suffix) && usedBytes(s.now[name]) > segment.Block
	}))
	b := bytes.Clone(s.now[name])
	at := segment.Block * (1 + rnd.IntN(usedBytes(b)/segment.Block-1))
	for !bytes.HasPrefix(b[at:], []byte("\xf5SPB")) {
		at -= segment.Block
	}
	b[at+4+rnd.IntN(4)] ^= 1 << rnd.IntN(8)
	return tampering{what: fmt.Sprintf("checksum of the frame at %d of %s", at, name), files: with(s.now, name, b), trust: s.plain, want: tampered}
}

// usedBytes is where the frames of a segment end.
func usedBytes(b []byte) int {
	h, err := segment.ParseHeader(b[:segment.Block])
	if err != nil {
		panic(err)
	}
	at := segment.Block
	for at < len(b) {
		f, err := segment.ParseFrame(b[at:], h.ID)
		if err != nil {
			break
		}
		at += f.Size
	}
	return at
}

// editLine changes one letter or digit of a record so that it remains one.
func editLine(rnd *rand.Rand, line []byte) []byte {
	line = bytes.Clone(line)
	from := bytes.Index(line, []byte(`"replica"`))
	for {
		at := from + rnd.IntN(len(line)-from)
		if c := line[at]; c >= '0' && c <= '8' || c >= 'a' && c <= 'y' {
			line[at]++
			return line
		}
	}
}

// editMended changes a record and mends its frame, but not what follows.
func editMended(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	f := takeApart(t, s.now, s.someLog(rnd))
	x := pick(rnd, f.segs)
	for len(x.frames) == 0 {
		x = pick(rnd, f.segs)
	}
	frame := pick(rnd, x.frames)
	i := rnd.IntN(len(frame))
	frame[i] = editLine(rnd, frame[i])
	name := segment.Name(f.log, x.Number)
	files := with(s.now, segment.SealedName(f.log, x.Number), nil)
	return tampering{what: fmt.Sprintf("record edited in %s", name), files: with(files, name, x.encode(x.FirstSeq())), trust: s.plain, want: tampered}
}

func editRebuilt(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	f := takeApart(t, s.now, s.someLog(rnd))
	lines := f.records()
	i := rnd.IntN(len(lines))
	*lines[i] = editLine(rnd, *lines[i])
	return tampering{what: fmt.Sprintf("record %d of %s edited", i, f.log), files: f.rebuild(t, s.now), trust: s.plain, want: tampered}
}

func deleteRecord(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	f := takeApart(t, s.now, s.someLog(rnd))
	x := pick(rnd, f.segs)
	for len(x.frames) == 0 {
		x = pick(rnd, f.segs)
	}
	i := rnd.IntN(len(x.frames))
	j := rnd.IntN(len(x.frames[i]))
	if x.frames[i] = slices.Delete(slices.Clone(x.frames[i]), j, j+1); len(x.frames[i]) == 0 {
		x.frames = slices.Delete(slices.Clone(x.frames), i, i+1)
	}
	if rnd.IntN(2) == 0 {
		f.number()
	}
	return tampering{what: fmt.Sprintf("a record of frame %d of segment %d of %s deleted", i, x.Number, f.log), files: f.rebuild(t, s.now), trust: s.plain, want: tampered}
}

func (s *scene) segmentNames(rnd *rand.Rand) []string {
	log := s.someLog(rnd)
	return namesOf(s.now, func(name string) bool { return isSegment(name) && strings.HasPrefix(name, log) })
}

func deleteSegment(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	names := s.segmentNames(rnd)
	i := 1 + rnd.IntN(len(names)-2)
	return tampering{what: names[i] + " deleted", files: with(s.now, names[i], nil), trust: s.plain, want: tampered}
}

func deleteBegin(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	names := s.segmentNames(rnd)
	n := 1 + rnd.IntN(len(names)-1)
	files := maps.Clone(s.now)
	for _, name := range names[:n] {
		delete(files, name)
	}
	return tampering{what: fmt.Sprintf("the first %d segments up to %s deleted", n, names[n-1]), files: files, trust: s.plain, want: tampered}
}

func deleteEnd(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	names := s.segmentNames(rnd)
	n := 1 + rnd.IntN(len(names)-1)
	files := maps.Clone(s.now)
	for _, name := range names[len(names)-n:] {
		delete(files, name)
	}
	log, _, _ := strings.Cut(names[0], "/")
	if rnd.IntN(2) == 0 {
		delete(files, log+"/tail")
	}
	return tampering{what: fmt.Sprintf("the last %d segments of %s deleted", n, log), files: files, trust: s.plain, want: tampered}
}

// deleteLog removes a log and all that speaks of it in its own folder.
func deleteLog(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	log := s.someLog(rnd)
	files := maps.Clone(s.now)
	maps.DeleteFunc(files, func(name string, _ []byte) bool { return strings.HasPrefix(name, log+"/") })
	return tampering{what: "the " + log + " log deleted", files: files, trust: s.plain, want: tampered}
}

func swapRecords(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	f := takeApart(t, s.now, s.someLog(rnd))
	lines := f.records()
	i, j := rnd.IntN(len(lines)), rnd.IntN(len(lines))
	for i == j {
		j = rnd.IntN(len(lines))
	}
	*lines[i], *lines[j] = *lines[j], *lines[i]
	if rnd.IntN(2) == 0 {
		f.number()
	}
	return tampering{what: fmt.Sprintf("records %d and %d of %s swapped", i, j, f.log), files: f.rebuild(t, s.now), trust: s.plain, want: tampered}
}

func swapSegments(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	f := takeApart(t, s.now, s.someLog(rnd))
	i, j := rnd.IntN(len(f.segs)), rnd.IntN(len(f.segs))
	for i == j {
		j = rnd.IntN(len(f.segs))
	}
	files := maps.Clone(s.now)
	a, b := f.segs[i], f.segs[j]
	if rnd.IntN(2) == 0 { // as files
		for _, x := range []*forgedSegment{a, b} {
			delete(files, segment.Name(f.log, x.Number))
			delete(files, segment.SealedName(f.log, x.Number))
		}
		files[segment.Name(f.log, a.Number)] = b.encode(b.FirstSeq())
		files[segment.Name(f.log, b.Number)] = a.encode(a.FirstSeq())
	} else {
		f.segs[i].frames, f.segs[j].frames = f.segs[j].frames, f.segs[i].frames
		f.number()
		files = f.rebuild(t, files)
	}
	return tampering{what: fmt.Sprintf("segments %d and %d of %s swapped", a.Number, b.Number, f.log), files: files, trust: s.plain, want: tampered}
}

// splice puts records of another log, or of elsewhere in this one, in the place of others.
func splice(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	f := takeApart(t, s.now, s.someLog(rnd))
	from := takeApart(t, s.now, s.someLog(rnd)).records()
	lines := f.records()
	i, j := rnd.IntN(len(lines)), rnd.IntN(len(from))
	for bytes.Equal(*lines[i], *from[j]) {
		j = rnd.IntN(len(from))
	}
	*lines[i] = *from[j]
	if rnd.IntN(2) == 0 {
		*lines[i] = bytes.Replace(*lines[i], []byte(`"log":"control"`), []byte(`"log":"`+f.log+`"`), 1)
		f.number()
	}
	return tampering{what: fmt.Sprintf("record %d of %s replaced", i, f.log), files: f.rebuild(t, s.now), trust: s.plain, want: tampered}
}

func duplicateRecord(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	f := takeApart(t, s.now, s.someLog(rnd))
	x := pick(rnd, f.segs)
	for len(x.frames) == 0 {
		x = pick(rnd, f.segs)
	}
	i := rnd.IntN(len(x.frames))
	x.frames = slices.Insert(slices.Clone(x.frames), i, x.frames[i])
	if rnd.IntN(2) == 0 {
		f.number()
	}
	return tampering{what: fmt.Sprintf("frame %d of segment %d of %s is there twice", i, x.Number, f.log), files: f.rebuild(t, s.now), trust: s.plain, want: tampered}
}

func truncateFile(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	name := pick(rnd, namesOf(s.now, func(name string) bool {
		return isSegment(name) || strings.Contains(name, "/tile/") || strings.HasPrefix(name, "policies/") || strings.HasSuffix(name, "/checkpoint")
	}))
	b := s.now[name]
	size := rnd.IntN(len(b))
	if strings.HasSuffix(name, segment.Suffix) {
		size = rnd.IntN(usedBytes(b))
		if rnd.IntN(2) == 0 {
			size = size / segment.Block * segment.Block
		}
	}
	return tampering{what: fmt.Sprintf("%s cut to %d of %d bytes", name, size, len(b)), files: with(s.now, name, b[:size:size]), trust: s.plain, want: tampered}
}

// dropFrames removes the last frames of a log and makes the rest fit.
func dropFrames(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	f := takeApart(t, s.now, s.someLog(rnd))
	n := 1 + rnd.IntN(40)
	for range n {
		last := f.segs[len(f.segs)-1]
		for len(last.frames) == 0 {
			f.segs = f.segs[:len(f.segs)-1]
			last = f.segs[len(f.segs)-1]
		}
		last.frames = last.frames[:len(last.frames)-1]
	}
	return tampering{what: fmt.Sprintf("the last %d frames of %s dropped", n, f.log), files: f.rebuild(t, s.now), trust: s.plain, want: tampered}
}

// rollback puts the whole directory back as it was; only a receipt tells.
func rollback(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	old := pick(rnd, []map[string][]byte{s.then, s.early})
	return tampering{what: "the directory as it was earlier", files: old, trust: s.pinned, want: tampered}
}

// rollbackOne puts one log back with all that belongs to it; the other log's heartbeats tell.
func rollbackOne(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	log := s.someLog(rnd)
	old := pick(rnd, []map[string][]byte{s.then, s.early})
	files := maps.Clone(s.now)
	maps.DeleteFunc(files, func(name string, _ []byte) bool { return strings.HasPrefix(name, log+"/") })
	for name, b := range old {
		if strings.HasPrefix(name, log+"/") {
			files[name] = b
		}
	}
	return tampering{what: "the " + log + " log as it was earlier", files: files, trust: s.plain, want: tampered}
}

// fork writes another history of a log, signed by a key of one's own for the same origin.
func fork(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	log := s.someLog(rnd)
	f := takeApart(t, s.now, log)
	lines := f.records()
	i := rnd.IntN(len(lines))
	*lines[i] = editLine(rnd, *lines[i])
	files := f.resign(f.rebuild(t, s.now), newKeys(99))
	c := tampering{what: fmt.Sprintf("%s log forked at record %d", log, i), files: files, trust: s.plain, want: []Result{Untrusted, Tampered}}
	if rnd.IntN(2) == 0 {
		c.trust, c.want = s.pinned, tampered
	}
	return c
}

// resign replaces all checkpoints of the log by one of keys.
func (f *forgery) resign(files map[string][]byte, by *keys) map[string][]byte {
	cp := f.checkpoint()
	note := by.signNote(cp.Origin, string(cp.Body()))
	files = with(files, f.log+"/tree/checkpoint", note)
	return with(files, f.log+"/tree/history", append(bytes.Clone(note), '\n'))
}

func (f *forgery) checkpoint() tree.Checkpoint {
	after := f.segs[0].Before.Clone()
	for _, line := range f.records() {
		after.Append(tree.HashLeaf(*line))
	}
	return tree.Checkpoint{Origin: testOrigin + "/" + f.log, Size: after.Size(), Root: after.Root()}
}

// foreignCheckpoint replaces a checkpoint by one that is by somebody else, or about something else.
func foreignCheckpoint(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	log := s.someLog(rnd)
	other := map[string]string{"decision": "control", "control": "decision"}[log]
	cp := takeApart(t, s.now, log).checkpoint()
	strange, c := newKeys(77), tampering{trust: s.plain, want: untrusted}
	note := strange.signNote(cp.Origin, string(cp.Body()))
	switch rnd.IntN(3) {
	case 0:
		c.what = "a stranger's signature"
	case 1:
		c.what, note = "a stranger's origin", strange.signNote("evil.example/audit/"+log, strings.Replace(string(cp.Body()), testOrigin, "evil.example/audit", 1))
	case 2:
		c.what, note, c.want = "a checkpoint of the other log", s.now[other+"/tree/checkpoint"], tampered
	}
	name := log + "/tree/checkpoint"
	if rnd.IntN(2) == 0 {
		name = log + "/tree/history"
		note = append(append(bytes.Clone(note), '\n'), s.now[name]...)
	}
	c.what += " in " + name
	c.files = with(s.now, name, note)
	return c
}

// forkedCheckpoint is signed by the right key, for another tree: a key process that was made to sign two histories.
func forkedCheckpoint(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	log := s.someLog(rnd)
	cp := takeApart(t, s.now, log).checkpoint()
	c := tampering{trust: s.plain, want: tampered}
	switch rnd.IntN(3) {
	case 0:
		c.what, cp.Root[3] = "another root", cp.Root[3]+1
	case 1:
		c.what, cp.Size = "more records", cp.Size+uint64(1+rnd.IntN(5))
	case 2:
		c.what, cp.Size = "another size", cp.Size-uint64(1+rnd.IntN(30))
	}
	note := s.w.keys.signNote(cp.Origin, string(cp.Body()))
	switch rnd.IntN(3) {
	case 0:
		c.files = with(s.now, log+"/tree/checkpoint", note)
	case 1:
		c.files = with(s.now, log+"/tree/history", append(append(bytes.Clone(s.now[log+"/tree/history"]), note...), '\n'))
	case 2:
		c.files, c.trust = s.now, s.w.keys.trust(t, note)
	}
	c.what = "a checkpoint of the " + log + " log signed for " + c.what
	return c
}

// editHeader changes a segment's header and mends its checksum.
func editHeader(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	f := takeApart(t, s.now, s.someLog(rnd))
	x := f.segs[1+rnd.IntN(len(f.segs)-1)]
	for len(x.frames) == 0 { // nothing contradicts the boot or the id of a segment without frames
		x = f.segs[1+rnd.IntN(len(f.segs)-1)]
	}
	h := x.Header
	what := ""
	switch rnd.IntN(7) {
	case 0:
		what, h.BootN = "boot number", h.BootN-1
	case 1:
		what, h.Boot = "boot", uuid.New()
	case 2:
		what, h.PrevEnd = "end of the one before", h.PrevEnd-segment.Block
	case 3:
		what, h.ID = "id", uuid.New()
	case 4:
		what, h.Number = "number", h.Number+1
	case 5:
		what = "frontier"
		b := h.Before.AppendBinary(nil)
		b[rnd.IntN(len(b))] ^= 1
		h.Before, _ = tree.ParseFrontier(h.Before.Size(), b)
	case 6:
		x = f.segs[0]
		what, h = "one before the first", x.Header
		h.PrevEnd = segment.Block
	}
	b := append(h.Encode(), x.encode(x.FirstSeq())[segment.Block:]...)
	files := with(with(s.now, segment.SealedName(f.log, x.Number), nil), segment.Name(f.log, x.Number), b)
	return tampering{what: fmt.Sprintf("%s in the header of segment %d of %s", what, x.Number, f.log), files: files, trust: s.plain, want: tampered}
}

func editTile(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	name := pick(rnd, namesOf(s.now, func(name string) bool { return strings.Contains(name, "/tile/") }))
	b := bytes.Clone(s.now[name])
	switch rnd.IntN(3) {
	case 0:
		b[rnd.IntN(len(b))]++
	case 1:
		b = append(b[:32:32], b...)[:len(b)]
		if bytes.Equal(b, s.now[name]) {
			b = b[:len(b)-1]
		}
	case 2:
		clear(b[len(b)-32:])
	}
	return tampering{what: name + " edited", files: with(s.now, name, b), trust: s.plain, want: tampered}
}

func editPolicy(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	name := pick(rnd, namesOf(s.now, func(name string) bool { return strings.HasPrefix(name, "policies/") }))
	b := bytes.Clone(s.now[name])
	b[rnd.IntN(len(b))]++
	return tampering{what: name + " edited", files: with(s.now, name, b), trust: s.plain, want: tampered}
}

// signedNonsense is written and signed by a gateway that lies: every hash and signature is right.
func signedNonsense(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	f := takeApart(t, s.now, audit.DecisionLog)
	lines := f.records()
	i := rnd.IntN(len(lines))
	for !bytes.Contains(*lines[i], []byte(`"type":"decision"`)) {
		i = rnd.IntN(len(lines))
	}
	line := string(*lines[i])
	c := tampering{trust: s.plain, want: tampered}
	switch rnd.IntN(7) {
	case 0:
		c.what, line = "seq", strings.Replace(line, fmt.Sprintf(`"seq":%d,`, i), fmt.Sprintf(`"seq":%d,`, i+1), 1)
	case 1:
		c.what, line = "log", strings.Replace(line, `"log":"decision"`, `"log":"control"`, 1)
	case 2:
		c.what, line = "boot number", strings.Replace(line, `","n":`, `","n":1`, 1)
	case 3:
		c.what, line = "type", strings.Replace(line, `"type":"decision"`, `"type":"whatever"`, 1)
		c.full = true
	case 4:
		c.what, line = "input digest", strings.Replace(line, `"pad":"`, `"pad":"y`, 1)
		c.full = true
	case 5:
		c.what, c.full = "verdict", true
		if strings.Contains(line, `"effect":"allow","reason":"allow"`) {
			line = strings.Replace(line, `"effect":"allow","reason":"allow"`, `"effect":"deny","reason":"policy"`, 1)
		} else {
			line = strings.Replace(line, `"effect":"deny","reason":"policy"`, `"effect":"allow","reason":"allow"`, 1)
		}
	case 6:
		c.what, c.full = "decision", true
		line = strings.Replace(line, `"decision":{"allow":`, `"decision":{"note":1,"allow":`, 1)
	}
	*lines[i] = []byte(line)
	c.what = fmt.Sprintf("record %d signed with a wrong %s", i, c.what)
	f.forget()
	control := takeApart(t, s.now, audit.ControlLog)
	control.forget()
	c.files = f.resign(f.rebuild(t, s.now), s.w.keys)
	c.files = control.resign(control.rebuild(t, c.files), s.w.keys)
	return c
}

// forget makes heartbeats that say nothing of the other log, which is about to be another.
func (f *forgery) forget() {
	for _, line := range f.records() {
		before, rest, ok := bytes.Cut(*line, []byte(`"other":"`))
		if ok {
			_, after, _ := bytes.Cut(rest, []byte(`","clock"`))
			*line = slices.Concat(before, []byte(`"other":"","clock"`), after)
		}
	}
}

// check verifies what was tampered with.
func (c *tampering) check(t testing.TB, skip skips) (*Report, bool) {
	opts := Options{Trust: c.trust, Workers: 2, skip: skip}
	if c.full {
		opts.Rederive = new(oracle)
	}
	report := verifyFiles(t, c.files, opts)
	return report, slices.Contains(c.want, report.Result)
}

// AUD-05, AUD-06: whatever somebody does to a log who can write every byte of it, and compute everything but a signature, is found.
func TestTamperingIsFound(t *testing.T) {
	rnd := randomness(t)
	s := newScene(t)
	for _, kind := range slices.Sorted(maps.Keys(tamperings)) {
		t.Run(kind, func(t *testing.T) {
			for range rounds(t, 6) {
				c := tamperings[kind](t, rnd, s)
				if report, ok := c.check(t, skips{}); !ok {
					t.Errorf("%s: want %v, got\n%s", c.what, c.want, printed(report))
				}
			}
		})
	}
}

// A verifier that leaves one of its checks out lets something through that the matrix has: so each check is needed, and
// tested.
func TestEveryCheckIsNeeded(t *testing.T) {
	rnd := randomness(t)
	s := newScene(t)
	for name, mutant := range map[string]struct {
		skip  skips
		kinds []string
	}{
		"checksums of frames": {skips{parseFrame: carelessFrame}, []string{"checksum flip"}},
		"signatures":          {skips{openNote: carelessNote}, []string{"fork", "foreign checkpoint"}},
		"frontiers":           {skips{chain: true}, []string{"edit, frame mended", "header edit"}},
		"headers":             {skips{headers: true}, []string{"header edit"}},
		"missing segments":    {skips{missing: true}, []string{"deleted segment"}},
		"roots":               {skips{roots: true}, []string{"edit, all rebuilt", "swapped records", "splice"}},
		"receipts":            {skips{receipts: true}, []string{"rollback"}},
		"anchors":             {skips{anchors: true}, []string{"rollback of one log"}},
		"history":             {skips{history: true}, []string{"forked checkpoint"}},
		"newest checkpoint":   {skips{latest: true}, []string{"forked checkpoint"}},
		"length":              {skips{length: true}, []string{"deleted end", "dropped frames"}},
		"seq":                 {skips{seq: true}, []string{"signed nonsense"}},
		"boot":                {skips{boot: true}, []string{"signed nonsense"}},
		"names":               {skips{names: true}, []string{"signed nonsense", "foreign checkpoint"}},
		"begin":               {skips{begins: true}, []string{"deleted begin"}},
		"tiles":               {skips{tiles: true}, []string{"tile edit"}},
		"runs":                {skips{runs: true}, []string{"signed fork", "missing run"}},
		"policies":            {skips{policies: true}, []string{"policy edit"}},
		"full records":        {skips{decode: true}, []string{"signed nonsense"}},
	} {
		t.Run(name, func(t *testing.T) {
			for range 200 {
				c := tamperings[pick(rnd, mutant.kinds)](t, rnd, s)
				if _, ok := c.check(t, mutant.skip); !ok {
					return
				}
			}
			t.Error("nothing gets past a verifier without it")
		})
	}
}

// carelessFrame reads a frame without its checksum.
func carelessFrame(b []byte, id uuid.UUID) (*segment.Frame, error) {
	length := int(binary.LittleEndian.Uint32(b[20:]))
	if segment.FrameHeaderLen+length > len(b) {
		return nil, fmt.Errorf("cut short")
	}
	b = bytes.Clone(b[:min(len(b), segment.Padded(segment.FrameHeaderLen+length))])
	sum := crc32.Update(0, castagnoli, id[:])
	sum = crc32.Update(sum, castagnoli, b[:4])
	sum = crc32.Update(sum, castagnoli, b[8:segment.FrameHeaderLen+length])
	binary.LittleEndian.PutUint32(b[4:], sum)
	return segment.ParseFrame(b, id)
}

// carelessNote reads a checkpoint whoever signed it.
func carelessNote(note []byte) (tree.Checkpoint, error) {
	body, _, _ := bytes.Cut(note, []byte("\n\n"))
	return tree.ParseCheckpointBody(append(bytes.Clone(body), '\n'))
}
