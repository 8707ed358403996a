// Package suite is everything that tests a policy: the tests in Rego and the tables that lie beside it, and the directory
// that the tables speak of. Find gathers them, Run runs them and says which rules nothing tried.
//
// Where they are looked for: tests are the files *_test.rego of the policy's Rego, at any depth; tables are the files of
// folders named tables and the directory is directory.yaml, both in the Rego's folder or archive and beside the
// configuration.
package suite

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"sallyport/policy"
	"sallyport/policy/bundle"
	"sallyport/policy/review/directory"
	"sallyport/policy/review/table"
)

// Suite is what there is to run.
type Suite struct {
	Tests     []policy.Source // named as people know the files
	Tables    []*table.Table
	Directory *directory.Directory // nil: none was found

	base string // what the policy's Rego is called
}

// Names of what is looked for.
const (
	testSuffix    = "_test.rego"
	tablesFolder  = "tables"
	directoryName = "directory.yaml"
)

// Limits of what is read, so that activation is not held up by what lies about.
const (
	maxFiles        = 2_000
	maxFileBytes    = 4 << 20
	maxArchiveBytes = 64 << 20
)

// Find gathers what lies in the policy's Rego, a folder or an archive, and in the folder of its configuration. Either may
// be empty. What is wrong with the files is policy.Problems.
func Find(rego, folder string) (*Suite, error) {
	g := &gatherer{suite: &Suite{base: rego}}
	if rego != "" {
		if err := g.rego(rego); err != nil {
			return nil, fmt.Errorf("looking for tests in %s: %w", rego, err)
		}
	}
	if folder != "" {
		if err := g.beside(folder); err != nil {
			return nil, fmt.Errorf("looking for tests in %s: %w", folder, err)
		}
	}
	return g.result()
}

// From gathers what is among files, by their names in the policy's Rego. They are called base/name.
func From(files map[string][]byte, base string) (*Suite, error) {
	g := &gatherer{suite: &Suite{base: base}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if Wanted(name) {
			g.add(name, shownAs(base, name), files[name])
		}
	}
	return g.result()
}

// shownAs is a file of what base names, a folder, an archive or an address, as people are told of it.
func shownAs(base, name string) string {
	if bundle.Remote(base) {
		return base + "/" + name
	}
	return filepath.Join(base, filepath.FromSlash(name))
}

// Wanted reports whether a file of the policy's Rego belongs to its suite. Names that begin with a dot do not.
func Wanted(name string) bool {
	if strings.HasPrefix(name, ".") || strings.Contains(name, "/.") {
		return false
	}
	folder, base := path.Base(path.Dir(name)), path.Base(name)
	table := folder == tablesFolder && (path.Ext(base) == ".yaml" || path.Ext(base) == ".yml")
	return strings.HasSuffix(base, testSuffix) || name == directoryName || table
}

// gatherer fills a suite.
type gatherer struct {
	suite    *Suite
	seen     []fs.FileInfo // the Rego may lie in the configuration's folder: each file once
	problems policy.Problems
}

func (g *gatherer) result() (*Suite, error) {
	if g.problems != nil {
		return nil, g.problems
	}
	return g.suite, nil
}

// add takes a wanted file; shown is its name as people know it. Of two directories the first counts: that of the Rego.
func (g *gatherer) add(name, shown string, text []byte) {
	var err error
	switch {
	case strings.HasSuffix(name, testSuffix):
		g.suite.Tests = append(g.suite.Tests, policy.Source{Name: shown, Content: text})
	case name != directoryName:
		var t *table.Table
		t, err = table.Parse(shown, text)
		g.suite.Tables = append(g.suite.Tables, t)
	case g.suite.Directory == nil:
		g.suite.Directory, err = directory.ParseFile(shown, text)
	}
	if problems, ok := errors.AsType[policy.Problems](err); ok {
		g.problems = append(g.problems, problems...)
	}
}

func (g *gatherer) rego(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return g.folder(name, ".")
	}
	return g.archive(name)
}

// beside looks into a configuration's folder, and not below it but for the tables: there may be anything.
func (g *gatherer) beside(folder string) error {
	for _, name := range []string{directoryName, tablesFolder} {
		if err := g.folder(folder, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// folder reads what is wanted at or below a place of a folder, which links do not lead out of.
func (g *gatherer) folder(folder, at string) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), at, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != "." && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir
		case entry.IsDir() || !Wanted(name):
			return nil
		}
		return g.file(root, name, filepath.Join(folder, filepath.FromSlash(name)))
	})
}

func (g *gatherer) file(root *os.Root, name, shown string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case slices.ContainsFunc(g.seen, func(s fs.FileInfo) bool { return os.SameFile(s, info) }):
		return nil
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no regular file", shown)
	}
	g.seen = append(g.seen, info)
	if len(g.seen) > maxFiles {
		return fmt.Errorf("%s: more than %d files", shown, maxFiles)
	}
	text, err := readLimited(f)
	if err == nil {
		g.add(name, shown, text)
	}
	return err
}

// archive reads what is wanted of a .tar or .tar.gz.
func (g *gatherer) archive(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var unpacked io.Reader = bufio.NewReader(f)
	if magic, err := unpacked.(*bufio.Reader).Peek(2); err == nil && string(magic) == "\x1f\x8b" { // RFC 1952 §2.3.1
		if unpacked, err = gzip.NewReader(unpacked); err != nil {
			return err
		}
	}
	files := tar.NewReader(io.LimitReader(unpacked, maxArchiveBytes))
	for n := 0; ; {
		h, err := files.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		inside := path.Clean(strings.TrimPrefix(h.Name, "/")) // opa build writes a leading slash
		if h.Typeflag != tar.TypeReg || !Wanted(inside) {
			continue
		}
		if n++; n > maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		text, err := readLimited(files)
		if err != nil {
			return fmt.Errorf("%s: %w", inside, err)
		}
		g.add(inside, filepath.Join(name, filepath.FromSlash(inside)), text)
	}
}

func readLimited(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
	if err == nil && len(text) > maxFileBytes {
		err = fmt.Errorf("larger than %d bytes", maxFileBytes)
	}
	return text, err
}
