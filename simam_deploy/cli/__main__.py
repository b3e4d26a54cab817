"""`python -m simam_deploy.cli`, where the console script is not on the path."""

from simam_deploy.cli import main

main()
