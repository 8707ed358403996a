package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/test/harness"
)

// The README's policy review works as it is written, from a clean clone of this repository: every command is run, in
// order, in one shell, and what the README shows of the output is what comes out.
func TestReadmeReviewWorksAsWritten(t *testing.T) {
	clone := filepath.Join(t.TempDir(), "sallyport")
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	run(t, root, "git", "clone", "-q", "--no-hardlinks", root, clone)
	if err := os.Symlink(harness.Binaries(t), filepath.Join(clone, "bin")); err != nil {
		t.Fatal(err)
	}
	commands := console(t, section(t, filepath.Join(clone, "README.md"), "## Policy reviews"))
	ports := otherPorts(t, filepath.Join(clone, "policies", "example", "sallyport.yaml"))
	script := ports.Replace(shell(commands))
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = clone
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+identity(t), "GIT_CONFIG_NOSYSTEM=1", "HOME="+t.TempDir())
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	said := strings.Split(string(out), marker)
	for i, c := range commands {
		for _, line := range c.shown {
			if !varies.MatchString(line) && !strings.Contains(said[i+1], line) {
				t.Errorf("$ %s\nthe README shows %q; it printed\n%s", c.text, line, said[i+1])
			}
		}
	}
}

// command is one line after a "$ " and what is shown below it.
type command struct {
	text  string
	shown []string
}

// console is every command in the fenced console blocks of a text.
func console(t *testing.T, text string) []command {
	t.Helper()
	var all []command
	for _, rest := range strings.Split(text, "```console\n")[1:] {
		block, _, _ := strings.Cut(rest, "```")
		for line := range strings.Lines(block) {
			line = strings.TrimRight(line, "\n")
			if text, prompt := strings.CutPrefix(line, "$ "); prompt {
				all = append(all, command{text: text})
			} else if line != "" {
				all[len(all)-1].shown = append(all[len(all)-1].shown, strings.TrimSpace(line))
			}
		}
	}
	if len(all) < 10 {
		t.Fatalf("the section has %d commands", len(all))
	}
	return all
}

// marker separates the outputs of commands.
const marker = "\x1e"

// varies is what the README cannot know: what it leaves out, digests and times.
var varies = regexp.MustCompile(`…|[0-9a-f]{12}|\d\d:\d\d:\d\d`)

// shell is a script of the commands. Whatever they started ends with it.
func shell(commands []command) string {
	var b strings.Builder
	b.WriteString("set -eu -o pipefail\nset -m\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "printf '\\x1e'\n%s\n", c.text)
	}
	return b.String()
}

// otherPorts gives the example's configuration ports that are free here, and returns what does so to a text.
func otherPorts(t *testing.T, config string) *strings.Replacer {
	t.Helper()
	ports := strings.NewReplacer("8443", strconv.Itoa(harness.FreePort(t)), "127.0.0.1:8080", fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t)))
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, config, ports.Replace(string(text)))
	return ports
}

// identity is a Git configuration of somebody who commits.
func identity(t *testing.T) string {
	file := filepath.Join(t.TempDir(), "gitconfig")
	write(t, file, "[user]\n\tname = Newcomer\n\temail = newcomer@corp.example\n[protocol \"file\"]\n\tallow = always\n")
	return file
}

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// section is a Markdown section with its heading, up to the next of the same level.
func section(t *testing.T, file, heading string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), heading+"\n")
	if !found {
		t.Fatalf("%s has no section %q", file, heading)
	}
	body, _, _ := strings.Cut(rest, "\n## ")
	return body
}
