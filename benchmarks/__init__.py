"""Speed against peers: `make bench` runs every case, `make bench-check` compares with the last file of this machine."""
