package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// openReader opens a decision log on the real disk.
func openReader(t testing.TB, dir string) *Reader {
	t.Helper()
	r, err := OpenReader(dir, DecisionLog)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// A reader beside the gateway sees what was acknowledged, at once, in order, over segments and a restart.
func TestReaderBesideTheGateway(t *testing.T) {
	const writers, each = 8, 100
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	a := openOnce(t, dir)
	var followed atomic.Int64
	var reading sync.WaitGroup
	for range 3 {
		r := openReader(t, dir)
		reading.Go(func() {
			next := uint64(0)
			for e, err := range r.Follow(ctx, Filter{}) {
				if err != nil || e.Record.Seq != next {
					t.Errorf("follow: seq %v, %v; want %d", e.Record, err, next)
					return
				}
				followed.Add(1)
				if next++; next == 2*writers*each {
					return
				}
			}
			t.Errorf("follow ended after %d records", next)
		})
	}
	for range 2 {
		var writing sync.WaitGroup
		for i := range writers {
			writing.Go(func() {
				r := openReader(t, dir)
				for j := range each {
					receipt := mustAppend(t, a.Decisions(), fmt.Sprintf("/%d/%d/%s", i, j, strings.Repeat("x", 1000)))
					if j%20 == 0 {
						checkReadable(t, r, receipt)
					}
				}
			})
		}
		writing.Wait()
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		a = openOnce(t, dir)
	}
	reading.Wait()
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func checkReadable(t *testing.T, r *Reader, want Receipt) {
	t.Helper()
	for e, err := range r.All(context.Background(), Filter{FromSeq: want.Seq}) {
		if err != nil {
			t.Error(err)
			return
		}
		if e.Record.ID != want.ID {
			t.Errorf("seq %d is %s, want %s", e.Record.Seq, e.Record.ID, want.ID)
		}
		return
	}
	t.Errorf("seq %d was acknowledged and cannot be read", want.Seq)
}

// What is written and not yet synced is nobody's to read: a power cut would take it back.
func TestReaderStopsAtTheUnacknowledgedTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, m := openSimulated(t)
		mustAppend(t, a.Decisions(), "/1")
		release := hang(m)
		_, err := a.Decisions().Append(t.Context(), decision("/2"))
		if !errors.Is(err, ErrSlow) {
			t.Fatal(err)
		}
		if n := len(records(t, m, DecisionLog)); n != 1 {
			t.Errorf("%d records while the second is not synced, want 1", n)
		}
		release()
		synctest.Wait()
		if n := len(records(t, m, DecisionLog)); n < 2 {
			t.Errorf("%d records after the sync, want the second too", n)
		}
	})
}

// With no gateway running a reader sees what the next one would keep, and does not get in its way.
func TestReaderWithoutGateway(t *testing.T) {
	w := writeLog(t, 3)
	w.edit(t, func(b []byte) []byte { b[w.frames[2]+100] ^= 1; return b })
	r := openReader(t, w.dir)
	n := 0
	for _, err := range r.All(t.Context(), Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 2 {
		t.Errorf("%d records before the torn tail, want 2", n)
	}
	openTest(t, w.dir, Options{})
}

func TestFollowSeesNewRecordsSoon(t *testing.T) {
	dir := t.TempDir()
	a := openTest(t, dir, Options{})
	mustAppend(t, a.Decisions(), "/0")
	mustAppend(t, a.Decisions(), "/1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	next := uint64(1)
	var sent time.Time
	soonest := time.Hour // of three: what a busy machine does in between is not ours
	for e, err := range openReader(t, dir).Follow(ctx, Filter{Last: 1}) {
		if err != nil || e.Record.Seq != next {
			t.Fatalf("got %+v, %v; want seq %d", e.Record, err, next)
		}
		if next > 1 {
			soonest = min(soonest, time.Since(sent))
		}
		if next == 4 {
			if soonest > time.Second {
				t.Errorf("each was seen after %v or more, want less than a second", soonest)
			}
			return
		}
		sent = time.Now()
		next = mustAppend(t, a.Decisions(), "/next").Seq
	}
	t.Error("following ended")
}

func TestFollowBeforeThereIsALog(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	seen := make(chan error, 1)
	r := openReader(t, dir)
	go func() {
		for _, err := range r.Follow(ctx, Filter{}) {
			seen <- err
			return
		}
		seen <- errors.New("ended")
	}()
	mustAppend(t, openTest(t, dir, Options{}).Decisions(), "/")
	if err := <-seen; err != nil {
		t.Error(err)
	}
}

func TestFilters(t *testing.T) {
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	var ticks atomic.Int64
	m := newDisk(nil).boot(-1, false)
	a := openTest(t, "unused", Options{FS: m, segmentSize: smallestSegment, Now: func() time.Time {
		return start.Add(time.Duration(ticks.Add(1)) * time.Second)
	}})
	subject := func(id, email string) json.RawMessage {
		return json.RawMessage(fmt.Sprintf(`{"subject":{"id":%q,"email":%q},"pad":%q}`, id, email, strings.Repeat("x", 20<<10)))
	}
	for i, r := range []*Record{
		{Type: TypeDecision, App: "wiki", Effect: Allow, Reason: "policy", RequestID: "r0", Input: subject("corp|1", "Ann@corp.example")},
		{Type: TypeDecision, App: "wiki", Effect: Deny, Reason: "step_up", RequestID: "r1", Input: subject("corp|2", "bob@corp.example")},
		{Type: TypeOutcome, App: "wiki", RequestID: "r0", Outcome: &Outcome{Of: "r0", Status: 200}},
		{Type: TypeDecision, App: "payroll", Effect: Reject, Reason: "wiki", RequestID: "r3"},
		{Type: TypeControl, Code: "reload", Actor: &Actor{Kind: "os", ID: "uid:0", Name: "root"}},
		{Type: TypeDecision, App: `a"b`, Effect: Allow, RequestID: "r5", Input: subject("corp|1", "ann@corp.example")},
		{Type: TypeDecision, App: "wiki", Effect: Allow, RequestID: "r6", Input: json.RawMessage(`{"subject":[1]}`)},
	} {
		if receipt, err := a.Decisions().Append(t.Context(), r); err != nil || receipt.Seq != uint64(i) {
			t.Fatal(receipt, err)
		}
	}
	all := records(t, m, DecisionLog)
	for name, c := range map[string]struct {
		filter Filter
		want   []uint64
	}{
		"all":        {Filter{}, []uint64{0, 1, 2, 3, 4, 5, 6}},
		"app":        {Filter{App: "wiki"}, []uint64{0, 1, 2, 6}},
		"quoted app": {Filter{App: `a"b`}, []uint64{5}},
		"effect":     {Filter{Effect: Allow}, []uint64{0, 5, 6}},
		"reason":     {Filter{Reason: "wiki"}, []uint64{3}},
		"request":    {Filter{RequestID: "r0"}, []uint64{0, 2}},
		"type":       {Filter{Type: TypeControl}, []uint64{4}},
		"code":       {Filter{Code: "reload"}, []uint64{4}},
		"user id":    {Filter{User: "corp|1"}, []uint64{0, 5}},
		"user mail":  {Filter{User: "ann@CORP.example"}, []uint64{0, 5}},
		"actor":      {Filter{User: "root"}, []uint64{4}},
		"two":        {Filter{User: "corp|1", App: "wiki"}, []uint64{0}},
		"from":       {Filter{From: all[5].Time}, []uint64{5, 6}},
		"to":         {Filter{To: all[2].Time}, []uint64{0, 1}},
		"seq":        {Filter{FromSeq: 5}, []uint64{5, 6}},
		"last":       {Filter{Last: 2}, []uint64{5, 6}},
		"last app":   {Filter{Last: 3, App: "wiki"}, []uint64{1, 2, 6}},
		"last many":  {Filter{Last: 100}, []uint64{0, 1, 2, 3, 4, 5, 6}},
		"last none":  {Filter{Last: -1}, nil},
		"nothing":    {Filter{App: "mail"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []uint64
			for e, err := range (&Reader{fs: m, log: DecisionLog}).All(t.Context(), c.filter) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, e.Record.Seq)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestRawIsTheRecordAsStored(t *testing.T) {
	w := writeLog(t, 2)
	b, err := os.ReadFile(w.segment)
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range openReader(t, w.dir).All(t.Context(), Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), string(e.Raw)+"\n") {
			t.Errorf("%s is not in the file", e.Raw)
		}
	}
}

func TestReadingEndsWithItsContext(t *testing.T) {
	w := writeLog(t, 2)
	r := openReader(t, w.dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for e, err := range r.All(ctx, Filter{}) {
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err == nil && e.Record.Seq > 0 {
			t.Error("reading went on")
		}
		cancel()
	}
	for e, err := range r.Follow(ctx, Filter{}) {
		t.Errorf("follow yields %v, %v", e.Record, err)
	}
}

func TestOpenReaderRefuses(t *testing.T) {
	if _, err := OpenReader(filepath.Join(t.TempDir(), "none"), DecisionLog); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v, want fs.ErrNotExist", err)
	}
	if _, err := OpenReader(t.TempDir(), "../decision"); err == nil {
		t.Error("a log of another name was opened")
	}
}

// Only one process writes a directory; the others are told, and readers do not count.
func TestOneWriter(t *testing.T) {
	dir := t.TempDir()
	a := openTest(t, dir, Options{})
	mustAppend(t, a.Control(), "/")
	if _, err := Open(Config{Dir: dir}, quiet(Options{})); !errors.Is(err, ErrLocked) {
		t.Errorf("second gateway: %v, want ErrLocked", err)
	}
	if _, err := Announce(t.Context(), Config{Dir: dir}, quiet(Options{}), &Record{Type: TypeControl}); !errors.Is(err, ErrLocked) {
		t.Errorf("announcing beside a gateway: %v, want ErrLocked", err)
	}
}

// A read with no gateway running leaves its record in the control log, and nothing else changes.
func TestAnnouncedReadIsRecorded(t *testing.T) {
	w := writeLog(t, 2)
	read := &Record{Type: TypeControl, Code: "audit_read", Actor: &Actor{Kind: "os", ID: "uid:7"}}
	before, err := os.ReadFile(w.segment)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(3) {
		receipt, err := Announce(t.Context(), Config{Dir: w.dir}, quiet(Options{}), read)
		if err != nil || receipt.Log != ControlLog || receipt.Seq != i {
			t.Fatalf("announcing: %+v, %v", receipt, err)
		}
	}
	after, err := os.ReadFile(w.segment)
	if err != nil || string(before) != string(after) {
		t.Errorf("the decision log changed: %v", err)
	}
	a := openTest(t, w.dir, Options{})
	if a.Boot().N != 5 {
		t.Errorf("boot number %d, want 5: each announcement is a run too", a.Boot().N)
	}
	for _, r := range records(t, a.fs, ControlLog) {
		if r.Code != read.Code || r.Actor.ID != read.Actor.ID {
			t.Errorf("control record %+v, want the announcement", r)
		}
	}
}

func TestAnnounceNeedsALog(t *testing.T) {
	dir := t.TempDir()
	read := &Record{Type: TypeControl, Code: "audit_read"}
	if _, err := Announce(t.Context(), Config{Dir: dir}, quiet(Options{}), read); err == nil {
		t.Error("announced in an empty directory")
	}
	openTest(t, dir, Options{}) // the attempt left nothing that stops a gateway
	if _, err := Announce(t.Context(), Config{Dir: filepath.Join(dir, "none")}, quiet(Options{}), read); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v, want fs.ErrNotExist", err)
	}
}

// Nobody but owner and group gets at the log.
func TestFileModes(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "audit")
	a := openTest(t, dir, Options{})
	if err := a.KeepPolicy(policyDigest([]byte("x")), []byte("x")); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o027 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
