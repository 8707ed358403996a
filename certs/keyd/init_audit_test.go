package keyd_test

import (
	"bytes"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/certs/internal/wire"
	"sallyport/certs/keyd"
	"sallyport/certs/keyd/keydtest"
)

// older is a folder as an Init made it that knew no audit keys.
func older(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "old")
	if _, err := keyd.Init(initOptions(dir)); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"keys/checkpoint.pem", "keys/manifest.pem", "public/audit-trust.txt",
		"state/checkpoint-corp.example~audit~decision", "state/checkpoint-corp.example~audit~control"} {
		if err := os.Remove(filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	head, rest, _ := strings.Cut(readConfig(t, dir), "  - name: checkpoint")
	_, tail, _ := strings.Cut(rest, "\n# What assertions")
	writeConfig(t, dir, head+"\n# What assertions"+tail)
	return dir
}

func readConfig(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "keyd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeConfig(t *testing.T, dir, config string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "keyd.yaml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
}

// signsFirst runs keyd and has it sign the first checkpoint under that origin.
func signsFirst(t *testing.T, dir, origin string) *keydtest.Setup {
	t.Helper()
	k := &keydtest.Setup{Dir: dir, Config: filepath.Join(dir, "keyd.yaml"), Socket: filepath.Join(dir, "run", "keyd.sock")}
	k.Start(t)
	st, err := keyd.AskStatus(k.Socket)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(st.Keys, func(s wire.KeyStatus) bool { return s.Purpose == wire.Checkpoints })
	if i < 0 {
		t.Fatalf("no checkpoint key in %+v", st.Keys)
	}
	c, err := keyd.LoadConfig(k.Config)
	if err != nil || !slices.Contains(c.Keys[i].Origins, origin) {
		t.Fatalf("got origins %v %v, want %s", c.Keys[i].Origins, err, origin)
	}
	s := signer{dial(t, k), keyID(t, st.Keys[i].ID)}
	s.must(keydtest.NewLog(t, "log"), origin, 0, 3)
	return k
}

func keyID(t *testing.T, text string) (id wire.KeyID) {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) != len(id) {
		t.Fatal(text, err)
	}
	return wire.KeyID(b)
}

func TestInitMakesAuditKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	res, err := keyd.Init(initOptions(dir))
	if err != nil {
		t.Fatal(err)
	}
	k := signsFirst(t, dir, decision)
	trust, err := os.ReadFile(res.Trust)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := keyd.TrustLines(k.Socket)
	if err != nil || len(lines) != 3 || !strings.HasSuffix(string(trust), "\n"+strings.Join(lines, "\n")+"\n") {
		t.Errorf("%s has %q, keyd says %v %v", res.Trust, trust, lines, err)
	}
}

func TestInitTakesAnotherOrigin(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	o := initOptions(dir)
	o.Base = "corp.example/berlin"
	if _, err := keyd.Init(o); err != nil {
		t.Fatal(err)
	}
	signsFirst(t, dir, "corp.example/berlin/control")
	for _, bad := range []string{"corp example", "corp.example/", "/audit", "a+b", "a//b", "a/../b", strings.Repeat("a", 200)} {
		o := initOptions(filepath.Join(t.TempDir(), "new"))
		o.Base = bad
		if _, err := keyd.Init(o); err == nil {
			t.Errorf("origin %q: accepted", bad)
		}
	}
}

// An operator with an older keyd runs init once more: the new keys come, and nothing that was there changes.
func TestInitAddsAuditKeysToAnOlderFolder(t *testing.T) {
	for name, edit := range map[string]func(config string) string{
		"as init wrote it": func(c string) string { return c },
		"not indented":     func(c string) string { return unindentKeys(c) },
		"with comments": func(c string) string {
			return strings.Replace(c, "keys:\n", "keys: # ours\n  # the first\n", 1) + "# the end"
		},
		"Windows endings": func(c string) string { return strings.ReplaceAll(c, "\n", "\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := older(t)
			writeConfig(t, dir, edit(readConfig(t, dir)))
			before := readConfig(t, dir)
			oldKey, _ := os.ReadFile(filepath.Join(dir, "keys", "assertion.pem"))
			out, err := exec.Command(keydtest.Binary(), "init", "--dir", dir, "--domain", "corp.example").CombinedOutput()
			if err != nil || !bytes.Contains(out, []byte("audit-trust.txt")) {
				t.Fatalf("%v: %s", err, out)
			}
			after := readConfig(t, dir)
			if !isSubsequence(strings.SplitAfter(before, "\n"), strings.SplitAfter(after, "\n")) {
				t.Errorf("a line of the old configuration is gone:\n%s", after)
			}
			if key, _ := os.ReadFile(filepath.Join(dir, "keys", "assertion.pem")); !bytes.Equal(key, oldKey) {
				t.Error("a key changed")
			}
			signsFirst(t, dir, control)
			if out, err := exec.Command(keydtest.Binary(), "init", "--dir", dir, "--domain", "corp.example").CombinedOutput(); err == nil || !bytes.Contains(out, []byte("lacks nothing")) {
				t.Errorf("once more: got %v %s", err, out)
			}
		})
	}
}

// unindentKeys writes the list of keys as some people do.
func unindentKeys(config string) string {
	head, rest, _ := strings.Cut(config, "keys:\n")
	list, tail, _ := strings.Cut(rest, "\n# What")
	var b strings.Builder
	for line := range strings.Lines(list) {
		b.WriteString(strings.TrimPrefix(line, "  "))
	}
	return head + "keys:\n" + b.String() + "\n# What" + tail
}

func isSubsequence(short, long []string) bool {
	for _, s := range long {
		if len(short) > 0 && short[0] == s {
			short = short[1:]
		}
	}
	return len(short) == 0
}

// Whatever speaks against it leaves the older folder as it is.
func TestInitLeavesAnOlderFolderAlone(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, dir string, o *keyd.InitOptions)
		want  string
	}{
		"a key file is there": {func(t *testing.T, dir string, _ *keyd.InitOptions) {
			os.WriteFile(filepath.Join(dir, "keys", "manifest.pem"), []byte("precious"), 0o600)
		}, "manifest.pem exists"},
		"a state is there": {func(t *testing.T, dir string, _ *keyd.InitOptions) {
			os.WriteFile(filepath.Join(dir, "state", "checkpoint-corp.example~audit~control"), []byte("precious"), 0o600)
		}, "exists"},
		"hosts are named":         {func(_ *testing.T, _ string, o *keyd.InitOptions) { o.Hosts = []string{"x.corp.example"} }, "no hosts"},
		"no domain and no origin": {func(_ *testing.T, _ string, o *keyd.InitOptions) { o.Domain = "" }, "domain"},
		"the name is taken": {func(t *testing.T, dir string, _ *keyd.InitOptions) {
			writeConfig(t, dir, strings.Replace(readConfig(t, dir), "- name: assertion", "- name: checkpoint", 1))
		}, "the name is taken"},
		"a list on one line": {func(t *testing.T, dir string, _ *keyd.InitOptions) {
			writeConfig(t, dir, "dir: keys\nstate_dir: state\nkeys: [{name: a, purpose: tls-client, file: assertion.pem}]\n")
		}, "purpose: checkpoint"},
		"a broken configuration": {func(t *testing.T, dir string, _ *keyd.InitOptions) {
			writeConfig(t, dir, readConfig(t, dir)+"more: 1\n")
		}, "more"},
		"another user's": {func(t *testing.T, dir string, _ *keyd.InitOptions) {
			chown(t, filepath.Join(dir, "state"), keydtest.KeydUID)
		}, "run this as that user"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := older(t)
			o := keyd.InitOptions{Dir: dir, Domain: "corp.example"}
			tt.spoil(t, dir, &o)
			before := snapshot(t, dir)
			if _, err := keyd.Init(o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if after := snapshot(t, dir); after != before {
				t.Errorf("the folder was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// snapshot is every file's name, mode and content.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("find", dir, "-type", "f", "-printf", "%P %m ", "-exec", "sha256sum", "{}", ";").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(out), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
