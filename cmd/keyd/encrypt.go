package main

import (
	"errors"
	"fmt"
	"os"

	"sallyport/certs/keyd"
)

// credentialsVar is where systemd says in which folder a service's credentials are.
const credentialsVar = "CREDENTIALS_DIRECTORY"

// encrypt fills in what init is told about a passphrase.
func (c *initCommand) encrypt(o *keyd.InitOptions) (err error) {
	if !c.Encrypt {
		if c.PassphraseFile != "" || c.PassphraseCredential != "" {
			return errors.New("a passphrase encrypts nothing without --encrypt")
		}
		return nil
	}
	o.PassphraseFrom = keyd.SecretSource{File: c.PassphraseFile, Credential: c.PassphraseCredential}
	if c.PassphraseCredential != "" {
		o.PassphraseFrom.File = ""
	}
	o.Passphrase, err = keyd.NewPassphrase(c.PassphraseFile, "new passphrase of the keys")
	return err
}

type encryptCommand struct {
	Config         string `help:"Path of keyd.yaml." default:"${config}" type:"path"`
	PassphraseFile string `help:"File with the passphrase (default: what keyd.yaml says, or else it is asked for)." type:"path"`
}

func (c *encryptCommand) Run() error {
	done, err := keyd.Encrypt(keyd.EncryptOptions{
		Config: c.Config, PassphraseFile: c.PassphraseFile, Credentials: os.Getenv(credentialsVar),
	})
	for _, file := range done {
		fmt.Printf("encrypted  %s\n", file)
	}
	return err
}

type passphraseCommand struct {
	Config  string `help:"Path of keyd.yaml." default:"${config}" type:"path"`
	OldFile string `help:"File with the passphrase so far (default: what keyd.yaml says, or else it is asked for)." type:"path"`
	NewFile string `help:"File with the new passphrase (default: it is asked for). Where keyd.yaml names a file or credential, put it there afterwards." type:"path"`
}

func (c *passphraseCommand) Run() error {
	return keyd.ChangePassphrase(keyd.PassphraseOptions{
		Config: c.Config, OldFile: c.OldFile, NewFile: c.NewFile, Credentials: os.Getenv(credentialsVar),
	})
}
