"""``python -m wsgitop.zygote``: what the master execs for each generation; its channel is descriptor 3."""

from wsgitop.zygote.process import main

main()
