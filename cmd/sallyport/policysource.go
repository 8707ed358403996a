package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"sallyport/audit"
	"sallyport/gateway/boot"
	"sallyport/gateway/config"
	"sallyport/policy"
)

// reviewed is a policy that commands look at, wherever it came from.
type reviewed struct {
	Name   string // as it was asked for
	Bundle *policy.Bundle
	Engine *policy.Engine
	Config *config.Config // nil when it is an archive: an archive knows its apps and nothing of their addresses
}

// policyHelp says what a policy may be given as.
const policyHelp = `"active" (what the running gateway enforces), a digest that it has kept, a folder, a bundle or archive file, or a Git revision of the configuration's repository.`

// openPolicy finds the policy called spec: active, a digest, a folder or file, or a Git revision. A folder with a
// sallyport.yaml is a policy of its own; one with Rego alone, or a bundle, stands in for policy.bundle of the configuration.
func (in *invocation) openPolicy(spec string) (*reviewed, error) {
	name := "the policy"
	if spec != "" {
		name = "policy " + spec
	}
	r, err := in.findPolicy(spec)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	r.Name = spec
	if r.Engine, err = policy.Compile(in.ctx, r.Bundle); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

func (in *invocation) findPolicy(spec string) (*reviewed, error) {
	if spec == "" {
		return in.configured("")
	}
	if spec == "active" {
		return in.activePolicy()
	}
	if info, err := os.Stat(spec); err == nil {
		return in.policyOnDisk(spec, info)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if digestText.MatchString(spec) {
		r, err := in.keptPolicy(spec)
		if !errors.Is(err, fs.ErrNotExist) {
			return r, err
		}
	}
	return in.policyAt(spec)
}

// review reads a configuration's policy: the one that -c names as the gateway would, any other as a proposal, which is
// given nothing of the reviewer's. Rego, unless empty, is read in place of policy.bundle.
func (in *invocation) review(file, rego string) (*config.Config, *policy.Bundle, error) {
	if file == in.file {
		return boot.ReviewPolicy(file, rego)
	}
	return boot.ReviewProposal(file, in.file)
}

// configured is the policy of the configuration; rego, unless empty, in place of its policy.bundle.
func (in *invocation) configured(rego string) (*reviewed, error) {
	cfg, bundle, err := in.review(in.file, rego)
	if err != nil {
		return nil, err
	}
	return &reviewed{Bundle: bundle, Config: cfg}, nil
}

// proposed is the policy of a configuration that may be somebody else's: see boot.ReviewProposal.
func (in *invocation) proposed(file string) (*reviewed, error) {
	cfg, bundle, err := in.review(file, "")
	if err != nil {
		return nil, err
	}
	return &reviewed{Bundle: bundle, Config: cfg}, nil
}

func (in *invocation) policyOnDisk(name string, info fs.FileInfo) (*reviewed, error) {
	if info.IsDir() {
		if own := filepath.Join(name, configName); exists(own) {
			return in.proposed(own)
		}
		return in.standIn(name)
	}
	if strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml") {
		return in.proposed(name)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if b, err := policy.OpenArchive(data); err == nil {
		return &reviewed{Bundle: b}, nil
	}
	return in.standIn(name)
}

// standIn is the configuration's policy with a folder of Rego, or a bundle, in place of its policy.bundle.
func (in *invocation) standIn(rego string) (*reviewed, error) {
	if strings.HasSuffix(rego, ".rego") {
		return nil, errOneModule
	}
	if !exists(in.file) {
		return nil, fmt.Errorf("it is Rego alone, and its apps stand in the configuration (-c): there is no %s", in.file)
	}
	return in.configured(rego)
}

// errOneModule is that a policy was named by one of its modules.
var errOneModule = errors.New("it is one file of a policy's Rego: name the folder")

// configName is what a folder's configuration is called.
const configName = "sallyport.yaml"

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func (in *invocation) activePolicy() (*reviewed, error) {
	client, err := in.gateway()
	if err != nil {
		return nil, err
	}
	status, err := client.Status(in.ctx)
	if err != nil {
		return nil, err
	}
	return in.keptPolicy(status.Policy.Digest)
}

var digestText = regexp.MustCompile(`^(sha256:)?[0-9a-f]{12,64}$`)

// keptPolicy is a policy that the audit directory keeps; the first twelve digits of its digest are enough.
func (in *invocation) keptPolicy(digest string) (*reviewed, error) {
	places, err := config.Find(in.file, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	whole, err := audit.FindPolicy(places.Audit.Dir, digest)
	if err != nil {
		return nil, err
	}
	archive, err := audit.ReadPolicy(places.Audit.Dir, whole)
	if err != nil {
		return nil, err
	}
	b, err := policy.OpenArchive(archive)
	if err != nil {
		return nil, err
	}
	return &reviewed{Bundle: b}, nil
}

// policyAt is the configuration's policy as a Git revision has it.
func (in *invocation) policyAt(revision string) (*reviewed, error) {
	file, err := filepath.Abs(in.file)
	if err != nil {
		return nil, err
	}
	if file, err = filepath.EvalSymlinks(file); err != nil {
		return nil, fmt.Errorf("it is no policy in force or kept and no file, and Git is asked about the configuration (-c or SALLYPORT_CONFIG), which is not there: %w", err)
	}
	git := func(args ...string) ([]byte, error) { return gitOutput(in.ctx, filepath.Dir(file), args...) }
	top, err := git("rev-parse", "--show-toplevel")
	if err != nil {
		return nil, fmt.Errorf("it is no policy in force or kept and no file; to find it in Git: %w", err)
	}
	commit, err := git("rev-parse", "--verify", "--quiet", "--end-of-options", revision+"^{commit}")
	if err != nil {
		return nil, fmt.Errorf("it is no policy in force or kept, no file, and no revision of %s", bytes.TrimSpace(top))
	}
	root, relative := strings.TrimSpace(string(top)), ""
	if relative, err = filepath.Rel(root, file); err != nil {
		return nil, err
	}
	archive, err := gitOutput(in.ctx, root, "archive", "--format=tar", strings.TrimSpace(string(commit)))
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "sallyport-policy-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	if err := untar(archive, folder); err != nil {
		return nil, err
	}
	unpacked := filepath.Join(folder, relative)
	if info, err := os.Lstat(unpacked); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("that revision has no %s, or it is no file", relative)
	}
	r, err := in.proposed(unpacked)
	if err != nil {
		return nil, inRevision{err, folder}
	}
	return r, nil
}

// inRevision is what is wrong with a policy in a revision, told without the folder that it was unpacked into.
type inRevision struct {
	error
	folder string
}

// Error is the text with names as the repository has them.
func (e inRevision) Error() string {
	return strings.ReplaceAll(e.error.Error(), e.folder+string(filepath.Separator), "")
}

func gitOutput(ctx context.Context, folder string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = folder
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git %s: %w %s", args[0], err, bytes.TrimSpace(said.Bytes()))
	}
	return out, nil
}

// untar unpacks what git made of a revision: folders, files and links, none of which can lead out of the folder.
func untar(archive []byte, folder string) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = unpack(root, h, r)
		}
		if err != nil {
			return fmt.Errorf("unpacking a revision: %w", err)
		}
	}
}

func unpack(root *os.Root, h *tar.Header, content io.Reader) error {
	name := filepath.Clean(h.Name)
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o700)
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name)
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		return errors.Join(err, f.Close())
	}
	return nil // what git says of the commit
}
