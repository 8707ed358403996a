package search_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"sallyport/audit"
	"sallyport/audit/filter"
	"sallyport/audit/search"
	"sallyport/audit/search/sqlite"
)

// records is how many records a benchmark's log has: SALLYPORT_RECORDS, by default few.
func records(b *testing.B) int {
	if n, err := strconv.Atoi(os.Getenv("SALLYPORT_RECORDS")); err == nil && n > 0 {
		return n
	}
	return 50_000
}

// busy is a log as a company's day makes it, in memory: what is measured is the copy, and not the disk that the log is on.
// Its records are made when they are asked for, from a few hundred that were really written.
type busy struct {
	n         int
	templates [][]byte // lines without what busy puts in front
}

const (
	busyUsers = 2000
	busyApps  = 40
	perFrame  = 16
)

// line is the record of a seq: each request is a decision and its outcome, of one of 2,000 people at one of 40 apps.
func (l *busy) line(dst []byte, seq int) []byte {
	rnd := rand.New(rand.NewPCG(uint64(seq/2), 7))
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(seq) * 3 * time.Millisecond)
	user, app, ms := rnd.IntN(busyUsers), rnd.IntN(busyApps), at.UnixMilli()
	request, session := fmt.Sprintf("%08x-%04x-7%03x-8%03x-%012x", ms>>16, ms&0xffff, seq/2&0xfff, 0, seq/2), fmt.Sprintf("session-%04d-%d", user, seq/1_000_000)
	kind, effect, reason := "decision", "allow", "policy"
	if seq%2 == 1 {
		kind = "outcome"
	} else if rnd.IntN(50) == 0 {
		effect, reason = "deny", "step_up"
	}
	dst = fmt.Appendf(dst[:0], `{"v":1,"id":"%08x-%04x-7%03x-8%03x-%012x","log":"decision","seq":%d,"boot":{"id":"b","n":1},"type":"%s","time":"%s","replica":"one",`+
		`"request_id":"%s","session":"%s","app":"app-%02d","effect":"%s","reason":"%s"`, ms>>16, ms&0xffff, seq&0xfff, 1, seq, seq, kind,
		at.Format("2006-01-02T15:04:05.000000000Z"), request, session, app, effect, reason)
	if seq%2 == 0 {
		dst = fmt.Appendf(dst, `,"input":{"subject":{"type":"user","id":"corp|%d","email":"person.%d@corp.example"%s`, user, user, l.templates[0])
	} else {
		dst = fmt.Appendf(dst, `,"outcome":{"of":"x","status":200,"bytes_in":0,"bytes_out":1234,"duration_ns":12345678}`)
	}
	return append(dst, '}')
}

func newBusy(n int) *busy {
	var groups []string
	for i := range 40 {
		groups = append(groups, fmt.Sprintf("department-%02d-members", i))
	}
	list, _ := json.Marshal(groups)
	rest := `,"email_verified":true,"groups":` + string(list) + `},"action":{"name":"read","method":"GET","protocol":"","upgrade":""},` +
		`"resource":{"type":"http","id":"x","host":"app.corp.example","path":"/a/b","query":""}},"input_digest":"sha256:` + uuid.NewString() + `"`
	return &busy{n, [][]byte{[]byte(rest)}}
}

func (l *busy) place(seq int) audit.Position {
	frame := seq / perFrame
	return audit.Position{Segment: 1 + uint64(frame)/4000, Offset: int64(frame%4000+1) * 8 * 4096, Line: seq % perFrame}
}

func (l *busy) Lines(_ context.Context, from uint64) iter.Seq2[audit.Line, error] {
	return func(yield func(audit.Line, error) bool) {
		var buf []byte
		for seq := int(from); seq < l.n; seq++ {
			buf = l.line(buf, seq)
			if !yield(audit.Line{Seq: uint64(seq), Raw: buf, Position: l.place(seq)}, nil) {
				return
			}
		}
	}
}

func (l *busy) At(_ context.Context, p audit.Position) (audit.Entry, error) {
	frame := int(p.Segment-1)*4000 + int(p.Offset/8/4096) - 1
	raw := l.line(nil, frame*perFrame+p.Line)
	r := new(audit.Record)
	err := json.Unmarshal(raw, r)
	return audit.Entry{Record: r, Raw: raw, Position: p}, err
}

func (l *busy) Bounds() (audit.Bounds, error) { return audit.Bounds{Next: uint64(l.n)}, nil }

// lists makes the records beforehand, so that their making is not measured.
func (l *busy) made(b *testing.B, n int) []audit.Line {
	b.Helper()
	var lines []audit.Line
	for line := range l.Lines(context.Background(), 0) {
		line.Raw = append([]byte(nil), line.Raw...)
		if lines = append(lines, line); len(lines) == n {
			break
		}
	}
	return lines
}

// recorded is a log of lines that were made beforehand.
type recorded struct {
	*busy
	lines []audit.Line
}

func (r recorded) Lines(_ context.Context, from uint64) iter.Seq2[audit.Line, error] {
	return func(yield func(audit.Line, error) bool) {
		for _, l := range r.lines[from:] {
			if !yield(l, nil) {
				return
			}
		}
	}
}

// BenchmarkIndex copies a log: records/s, with the copy's size per record.
func BenchmarkIndex(b *testing.B) {
	n := min(records(b), 200_000)
	log := newBusy(n)
	src := recorded{log, log.made(b, n)}
	for b.Loop() {
		b.StopTimer()
		c := openCopy(b, b.TempDir())
		b.StartTimer()
		if _, err := c.Index(b.Context(), audit.DecisionLog, src, 0); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		size, err := c.Size(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(size)/float64(n), "bytes/record")
		b.StartTimer()
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkQuery searches a copied log: the newest 50, and counts. SALLYPORT_COPY keeps the copy in a folder between runs.
func BenchmarkQuery(b *testing.B) {
	n, dir := records(b), os.Getenv("SALLYPORT_COPY")
	if dir == "" {
		dir = b.TempDir()
	}
	src := newBusy(n)
	store, err := sqlite.Open(b.Context(), dir)
	if err != nil {
		b.Fatal(err)
	}
	c := search.New(store)
	defer c.Close()
	began := time.Now()
	p, err := c.Index(b.Context(), audit.DecisionLog, src, 0)
	if err != nil {
		b.Fatal(err)
	}
	size, err := c.Size(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d of %d records copied in %s, copy of %d MB", p.Rows, n, time.Since(began).Round(time.Millisecond), size>>20)
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(n/2) * 3 * time.Millisecond)
	for _, text := range []string{
		`user == "Person.77@corp.example"`, `app == "app-07"`, `app == "app-07" && effect == "deny"`, `reason == "step_up"`,
		`request_id == "` + requestOf(src, n/3) + `"`, `session == "session-0077-0"`,
		`effect == "deny" && time >= "` + from.Format(time.RFC3339) + `"`, `user == "corp|77" && effect == "deny"`,
		`user == "corp|77" && effect == "deny" && time >= "` + from.Format(time.RFC3339) + `" && time < "` + from.Add(time.Hour).Format(time.RFC3339) + `"`,
		`app == "app-07" && user == "nobody@corp.example"`, `code == "sign_in"`, `type == "decision"`,
	} {
		where, err := filter.Compile(text)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("newest50/"+text, func(b *testing.B) {
			for b.Loop() {
				for _, err := range c.Query(b.Context(), audit.DecisionLog, src, search.Query{Where: where, Newest: true, Limit: 50}) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
		b.Run("count/"+text, func(b *testing.B) {
			for b.Loop() {
				if _, err := c.Count(b.Context(), audit.DecisionLog, src, where); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func requestOf(l *busy, seq int) string {
	var r audit.Record
	if err := json.Unmarshal(l.line(nil, seq), &r); err != nil {
		panic(err)
	}
	return r.RequestID
}

// BenchmarkPage is a page of 50 from a log as it is on a disk, with 1,000 records at its end that are not copied.
func BenchmarkPage(b *testing.B) {
	const written = 20_000
	rnd := rand.New(rand.NewPCG(1, 1))
	m := newMachine()
	w := startWritingIn(b, m, 64<<20)
	defer w.Close()
	w.write(b, rnd, written)
	src, c := audit.OpenReaderFS(m, audit.DecisionLog), openCopy(b, b.TempDir())
	index(b, c, src, written-1000)
	where, err := filter.Compile(`app == "payroll" && effect == "reject" && user == "corp|3"`)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := seqs(c.Query(b.Context(), audit.DecisionLog, src, search.Query{Where: where, Newest: true, Limit: 50})); err != nil {
			b.Fatal(err)
		}
	}
}
