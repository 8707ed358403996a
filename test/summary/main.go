// Summary reads the output of "go test -json" and prints what people need of it: a line per package, the whole
// output of what failed, and the totals. It fails when a test failed, when a package did not build, or when no test
// ran at all.
//
// The arguments are the go test command line without packages. With it, a test that failed is run once more, alone and with
// the random seed that it printed: on a busy machine a deadline may pass that says nothing about the product. One that
// passes then is listed as unsteady; what the race detector found, a panic, and more than a few failures stay failures.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"
)

// event is one line of go test -json (go doc test2json).
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
	ImportPath                    string // of build output
}

type totals struct {
	passed, failed, skipped int
	broken                  bool      // something failed that is not a test, such as a build
	again                   []*failed // tests that a second run may excuse
	slow                    []event   // tests of more than a few seconds
}

// failed is a test, not one of its parts, with everything it and they printed.
type failed struct {
	pkg, test string
	output    strings.Builder
	parts     int
}

func main() {
	start := time.Now()
	t := read(os.Stdin)
	unsteady := t.runAgain(os.Args[1:])
	fmt.Printf("\nfinished in %s\n%d passed, %d failed, %d skipped\n", time.Since(start).Round(time.Second), t.passed, t.failed, t.skipped)
	t.printSlowest()
	for _, name := range unsteady {
		fmt.Println("unsteady, passed alone:", name)
	}
	if t.failed > 0 || t.skipped > 0 || t.broken || t.passed == 0 { // a test that did not run proves nothing
		os.Exit(1)
	}
}

// read prints as it goes.
func read(in io.Reader) *totals {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	t := &totals{}
	output := map[string][]string{} // by package and test
	suites := map[string]*failed{}  // tests under way, by package and test
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Println(lines.Text())
			continue
		}
		key := e.Package + " " + e.Test
		whole, _, _ := strings.Cut(e.Test, "/")
		suite := suites[e.Package+" "+whole]
		if suite == nil {
			suite = &failed{pkg: e.Package, test: whole}
			suites[e.Package+" "+whole] = suite
		}
		switch e.Action {
		case "output":
			output[key] = append(output[key], e.Output)
			suite.output.WriteString(e.Output)
		case "build-output":
			fmt.Print(e.Output)
		case "exit": // of go test, from test/run
			t.broken = t.broken || e.Output != "1" || t.failed == 0
		case "pass", "fail", "skip":
			t.count(e, output[key], suite)
			delete(output, key)
		}
	}
	return t
}

func (t *totals) count(e event, output []string, suite *failed) {
	if e.Test == "" {
		t.countPackage(e, output)
		return
	}
	if e.Elapsed >= slow && e.Test == suite.test {
		t.slow = append(t.slow, e)
	}
	switch e.Action {
	case "pass":
		t.passed++
	case "skip":
		t.skipped++
	case "fail":
		t.failed++
		suite.parts++
		printAll(output)
		if e.Test == suite.test {
			t.again = append(t.again, suite)
		}
	}
}

func (t *totals) countPackage(e event, output []string) {
	if e.Action == "skip" {
		return // a package without tests
	}
	fmt.Printf("%-5s %7.1fs  %s\n", e.Action, e.Elapsed, e.Package)
	if e.Action != "fail" {
		return
	}
	printAll(output)
	if !slices.ContainsFunc(t.again, func(f *failed) bool { return f.pkg == e.Package }) {
		t.broken = true // it did not build, or ended before a test could fail
	}
}

// most is how many tests a busy machine may disturb in one run. More have a common cause.
const most = 3

// grave are failures that no second run excuses.
var grave = regexp.MustCompile(`DATA RACE|panic: |fatal error: |goroutine \d+ \[`)

var printedSeed = regexp.MustCompile(`SALLYPORT_SEED=(\d+)`)

// runAgain gives each failed test its second run, and returns those that passed.
func (t *totals) runAgain(command []string) (unsteady []string) {
	if len(command) == 0 || t.broken || len(t.again) > most {
		return nil
	}
	for _, f := range t.again {
		if grave.MatchString(f.output.String()) {
			continue
		}
		name := f.pkg + " " + f.test
		fmt.Printf("once more, alone: %s\n", name)
		cmd := exec.Command(command[0], append(slices.Clone(command[1:]), "-count=1", "-run", "^"+f.test+"$", f.pkg)...)
		cmd.Env = os.Environ()
		if seed := printedSeed.FindString(f.output.String()); seed != "" {
			cmd.Env = append(cmd.Env, seed)
		}
		text, err := cmd.CombinedOutput()
		second := read(strings.NewReader(string(text)))
		if err != nil || second.failed > 0 || second.skipped > 0 || second.passed == 0 {
			continue
		}
		t.failed -= f.parts
		t.passed++
		unsteady = append(unsteady, name)
	}
	return unsteady
}

// slow is what a test may take before it is worth a line, in seconds.
const slow = 10

// printSlowest names the tests that a run waits for.
func (t *totals) printSlowest() {
	slices.SortFunc(t.slow, func(a, b event) int { return cmp.Compare(b.Elapsed, a.Elapsed) })
	for _, e := range t.slow[:min(len(t.slow), 10)] {
		fmt.Printf("slow  %7.1fs  %s %s\n", e.Elapsed, e.Package, e.Test)
	}
}

func printAll(output []string) {
	for _, line := range output {
		fmt.Print("    ", line)
	}
}
