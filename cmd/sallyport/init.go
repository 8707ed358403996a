package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed starter.yaml.tmpl
var starter string

type initCommand struct {
	Domain string `help:"The domain that the apps share." default:"corp.example"`
}

// starterValues are what the starter file leaves open.
type starterValues struct {
	Domain   string
	KeydUID  string // of the account sallyport-keyd
	KeydMade bool   // that account exists
}

func (c *initCommand) Run(in *invocation) error {
	text, err := starterFile(c.Domain)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(in.file), 0o755); err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	file, err := os.OpenFile(in.file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return no{fmt.Errorf("%s exists already and is left as it is", in.file)}
	}
	if err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	if _, err := file.WriteString(text); err != nil {
		return errors.Join(fmt.Errorf("writing the configuration: %w", err), file.Close(), os.Remove(in.file))
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	in.say("Wrote %s. Fill in the provider and your apps, then run: sallyport check", in.file)
	return nil
}

func starterFile(domain string) (string, error) {
	values := starterValues{Domain: domain, KeydUID: "0"}
	if account, err := user.Lookup("sallyport-keyd"); err == nil {
		values.KeydUID, values.KeydMade = account.Uid, true
	}
	var text strings.Builder
	parsed, err := template.New("starter").Parse(starter)
	if err != nil {
		return "", fmt.Errorf("BUG: %w", err)
	}
	err = parsed.Execute(&text, values)
	return text.String(), err
}
