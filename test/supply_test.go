package test

import (
	"bytes"
	"debug/buildinfo"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/test/harness"
)

// SUP-01, SUP-02: the binaries say what they are made of, and it is what go.mod and go.sum say, to the hash. They hold
// nothing of where they were built, which is what two builds of one commit could differ in.
func TestBinariesAreMadeOfWhatIsDeclared(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	declared, sums := lines(t, filepath.Join(root, "go.mod")), lines(t, filepath.Join(root, "go.sum"))
	for _, name := range []string{"sallyport", "keyd"} {
		path := filepath.Join(harness.Binaries(t), name)
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, dep := range info.Deps {
			if dep.Replace != nil || !declared[dep.Path+" "+dep.Version] || !sums[dep.Path+" "+dep.Version+" "+dep.Sum] {
				t.Errorf("%s holds %s %s %s, replaced by %v: not what go.mod and go.sum say", name, dep.Path, dep.Version, dep.Sum, dep.Replace)
			}
		}
		settings := map[string]string{}
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		if settings["-trimpath"] != "true" || settings["CGO_ENABLED"] != "0" {
			t.Errorf("%s is built with %v", name, settings)
		}
		binary, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(binary, []byte(root+"/")) {
			t.Errorf("%s holds the name of the folder it was built in", name)
		}
	}
}

// lines are the lines of a file, without the comments and the words of go.mod around them.
func lines(t *testing.T, path string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, " //")
		found[strings.TrimPrefix(strings.TrimSpace(line), "require ")] = true
	}
	return found
}
