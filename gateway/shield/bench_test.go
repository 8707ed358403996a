package shield

import (
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What an inspection costs, by request and paranoia. The rest of a request costs some 50 µs.
func BenchmarkInspect(b *testing.B) {
	words := func(n int) string { return strings.Repeat("The meeting is on Monday at ten. ", n/33+1)[:n] }
	var fields []string
	for k := range 40 {
		fields = append(fields, fmt.Sprintf(`{"id":%d,"name":"Item %d","text":%q}`, k, k, words(200)))
	}
	requests := []struct {
		name string
		q    *Request
	}{
		{"GET", ordinary("GET", "/wiki/start?tab=recent&page=2", "", "")},
		{"form-1KiB", ordinary("POST", "/page", "application/x-www-form-urlencoded", url.Values{"title": {"Notes"}, "text": {words(1000)}}.Encode())},
		{"JSON-10KiB", ordinary("POST", "/api", "application/json", `{"items":[`+strings.Join(fields, ",")+`]}`)},
		{"text-100KiB", ordinary("POST", "/notes", "text/plain", words(100<<10))},
		{"worst", worstCase()},
	}
	for _, paranoia := range []int{1, 2} {
		rules := testRules
		rules.Paranoia = paranoia
		i := compiled(b, rules)
		for _, r := range requests {
			b.Run(fmt.Sprintf("paranoia=%d/%s", paranoia, r.name), func(b *testing.B) {
				b.ReportAllocs()
				before := processorTime()
				for b.Loop() {
					i.Inspect(r.q)
				}
				b.ReportMetric(float64(processorTime()-before)/float64(b.N)/1e6, "cpu-ms/op")
			})
		}
	}
}

// processorTime is what this process has used so far, which others on the machine do not change.
func processorTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// What a rule set costs to compile: the first one, and one more.
func BenchmarkCompile(b *testing.B) {
	for _, kind := range []string{"first", "further"} {
		b.Run(kind, func(b *testing.B) {
			if kind == "further" {
				compiled(b, testRules)
			}
			b.ReportAllocs()
			for b.Loop() {
				i, err := Compile(testRules)
				if err != nil {
					b.Fatal(err)
				}
				i.Close()
			}
		})
	}
}
