package main

import (
	"fmt"
	"time"

	"sallyport/certs/keyd"
)

type rotateCommand struct {
	Name   string `arg:"" help:"Name of the key in keyd.yaml, which has rotate: there."`
	Now    bool   `help:"Use the new key at once, before everybody has seen it: for a key that others may know."`
	Config string `help:"Path of keyd.yaml, for the socket's." default:"${config}" type:"path"`
	Socket string `help:"Path of the socket; the configuration is not read then." type:"path"`
}

func (c *rotateCommand) Run() error {
	socket, err := socketOf(c.Socket, c.Config)
	if err != nil {
		return err
	}
	r, err := keyd.AskRotate(socket, c.Name, c.Now)
	if err != nil {
		return err
	}
	fmt.Printf("key       %s, generation %d\nid        %s\nused from %s\nthe one before is destroyed at %s\n",
		r.Name, r.Generation, r.ID, r.Current.Format(time.RFC3339), r.Retires.Format(time.RFC3339))
	return nil
}

type reloadCommand struct {
	Config string `help:"Path of keyd.yaml, for the socket's." default:"${config}" type:"path"`
	Socket string `help:"Path of the socket; the configuration is not read then." type:"path"`
}

func (c *reloadCommand) Run() error {
	socket, err := socketOf(c.Socket, c.Config)
	if err != nil {
		return err
	}
	return keyd.AskReload(socket)
}
